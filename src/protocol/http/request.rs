//! The head of a request: its method, its query, and where its body ends.

use httparse::{EMPTY_HEADER, Status, parse_headers};

use super::super::Reject;

/// Longest head. RFC 9112 asks for room for a first line of 8000 bytes.
pub(super) const HEAD_BYTES_MAX: usize = 8192;

/// Most header fields.
const FIELDS_MAX: usize = 48;

/// Methods with the space that follows them: what a request begins with.
const METHODS: &[(&[u8], Method)] = &[
    (b"GET ", Method::Get),
    (b"POST ", Method::Post),
    (b"PUT ", Method::Put),
    (b"HEAD ", Method::Other),
    (b"DELETE ", Method::Other),
    (b"OPTIONS ", Method::Other),
    (b"PATCH ", Method::Other),
    (b"CONNECT ", Method::Other),
    (b"TRACE ", Method::Other),
];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Method {
    Get,
    Post,
    Put,
    Other,
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// After so many bytes.
    Bytes(u64),
    /// Where its parts say so.
    Chunked,
    /// Where some other coding says so.
    Encoded,
    /// The request contradicts itself.
    Unclear,
}

/// A head, read.
pub(in crate::protocol) struct Head<'a> {
    pub(in crate::protocol) method: Method,
    target: &'a [u8],
    /// Bytes up to the body.
    pub(super) len: usize,
    pub(super) body: Body,
    /// The client waits with the body until it is told to go on.
    pub(super) expects: bool,
    /// The connection is for further requests.
    pub(super) keeps: bool,
    /// HTTP/1.0, where that has to be said.
    pub(super) is_old: bool,
    /// The body is JSON.
    pub(in crate::protocol) json: bool,
    /// The body is compressed.
    pub(in crate::protocol) packed: bool,
}

/// What unread bytes begin with.
pub(super) enum Begin<'a> {
    /// A request, of which the head is here.
    Request(Head<'a>),
    /// A request whose head cannot be read.
    Broken(Reject),
    /// None.
    Noise,
    /// More bytes are needed.
    Wait,
}

/// Reads the head that `bytes` begin with.
pub(super) fn begin(bytes: &[u8]) -> Begin<'_> {
    if bytes.is_empty() {
        return Begin::Wait;
    }
    let Some(method) = method(bytes) else {
        return Begin::Noise;
    };
    let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    match method.map_or(Ok(None), |method| head(method, window)) {
        Ok(Some(head)) => Begin::Request(head),
        Ok(None) if window.len() == HEAD_BYTES_MAX => Begin::Broken(Reject::TooLong),
        Ok(None) => Begin::Wait,
        Err(reject) => Begin::Broken(reject),
    }
}

/// The method that a request begins with; the inner value is `None` while that takes more bytes. `None` if there is no
/// such method.
fn method(bytes: &[u8]) -> Option<Option<Method>> {
    METHODS.iter().find_map(|&(word, method)| {
        let shared = word.len().min(bytes.len());
        let whole = shared == word.len();
        (word[..shared] == bytes[..shared]).then_some(whole.then_some(method))
    })
}

/// Reads a head; `None` if more bytes are needed. The first line is read here and not by `httparse`: simple trackers
/// leave spaces in a query as they are.
fn head(method: Method, bytes: &[u8]) -> Result<Option<Head<'_>>, Reject> {
    let Some(line_end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let (target, is_old) = first_line(&bytes[..line_end]).ok_or(Reject::Field)?;
    let mut room = [EMPTY_HEADER; FIELDS_MAX];
    let (len, fields) = match parse_headers(&bytes[line_end + 1..], &mut room) {
        Ok(Status::Complete(read)) => read,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(Reject::Field),
    };
    let mut head = Head {
        method,
        target,
        len: line_end + 1 + len,
        body: Body::Bytes(0),
        expects: false,
        keeps: !is_old,
        is_old,
        json: false,
        packed: false,
    };
    let mut length = None;
    let mut coding = None;
    for field in fields {
        let (name, value) = (field.name, field.value.trim_ascii());
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("content-length") {
            // Twice the same is once.
            let stated = length_of(value);
            length = Some(match length {
                Some(before) if before != stated => Body::Unclear,
                _ => stated,
            });
        } else if is("transfer-encoding") {
            let chunked = coding.is_none() && value.eq_ignore_ascii_case(b"chunked");
            coding = Some(if chunked {
                Body::Chunked
            } else {
                Body::Encoded
            });
        } else if is("expect") {
            // HTTP/1.0 has no interim answers (RFC 9110, 10.1.1).
            head.expects = !is_old && value.eq_ignore_ascii_case(b"100-continue");
        } else if is("connection") {
            head.connection(value);
        } else if is("content-type") {
            let media = value.split(|&byte| byte == b';').next();
            head.json = media
                .is_some_and(|media| media.trim_ascii().eq_ignore_ascii_case(b"application/json"));
        } else if is("content-encoding") {
            head.packed = !value.is_empty() && !value.eq_ignore_ascii_case(b"identity");
        }
    }
    head.body = match (coding, length) {
        // Two readers of the same bytes could see different requests (RFC 9112, 6.1).
        (Some(_), Some(_)) => Body::Unclear,
        (Some(_), None) if is_old => Body::Unclear,
        (coding, length) => coding.or(length).unwrap_or(Body::Bytes(0)),
    };
    Ok(Some(head))
}

/// Target, and whether it is HTTP/1.0.
fn first_line(line: &[u8]) -> Option<(&[u8], bool)> {
    let line = line.trim_ascii_end();
    // Somebody else may take it for the end of the line.
    if line.contains(&b'\r') {
        return None;
    }
    let target_start = line.iter().position(|&byte| byte == b' ')?;
    let target_end = line.iter().rposition(|&byte| byte == b' ')?;
    let target = line.get(target_start..target_end)?.trim_ascii();
    let is_old = match &line[target_end + 1..] {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    (!target.is_empty()).then_some((target, is_old))
}

fn length_of(value: &[u8]) -> Body {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse().ok());
    number.map_or(Body::Unclear, Body::Bytes)
}

impl<'a> Head<'a> {
    /// In the place of one that cannot be read.
    pub(super) fn unread() -> Head<'a> {
        Head {
            method: Method::Other,
            target: b"",
            len: 0,
            body: Body::Unclear,
            expects: false,
            keeps: false,
            is_old: false,
            json: false,
            packed: false,
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                self.keeps = false;
                return;
            }
            self.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// The query of the target, if it has one.
    pub(in crate::protocol) fn query(&self) -> Option<&'a [u8]> {
        let target = self.target.split(|&byte| byte == b'#').next()?;
        let mark = target.iter().position(|&byte| byte == b'?')?;
        let query = &target[mark + 1..];
        (!query.is_empty()).then_some(query)
    }
}
