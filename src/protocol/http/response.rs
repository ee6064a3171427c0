//! What a request is answered.

use super::request::Head;

/// Tells a client that waits with the body to send it.
pub(in crate::protocol) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// For what could not be kept. A client that takes it at its word comes again when a journal that was full may have room.
pub(in crate::protocol) const NO_ROOM: &str = "503 Service Unavailable\r\nRetry-After: 5";

/// What a body consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Media {
    /// Lines of JSON.
    Lines,
    /// Bytes of a protocol.
    Bytes,
}

/// A status, which may have further fields behind it, without a body. It says whether the connection is for further
/// requests.
pub(in crate::protocol) fn bare(head: &Head, status: &str) -> Vec<u8> {
    let connection = connection(head);
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{connection}\r\n").into_bytes()
}

/// A status with a body; 204 has none, and says nothing of its length (RFC 9110, 8.6).
pub(in crate::protocol) fn with_body(
    head: &Head,
    status: &str,
    media: Media,
    body: &[u8],
) -> Vec<u8> {
    let connection = connection(head);
    if body.is_empty() {
        return format!("HTTP/1.1 204 No Content\r\n{connection}\r\n").into_bytes();
    }
    let media = match media {
        Media::Lines => "application/x-ndjson",
        Media::Bytes => "application/octet-stream",
    };
    let length = body.len();
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n{connection}\r\n"
    )
    .into_bytes();
    response.extend_from_slice(body);
    response
}

fn connection(head: &Head) -> &'static str {
    match (head.keeps, head.is_old) {
        (false, _) => "Connection: close\r\n",
        (true, true) => "Connection: keep-alive\r\n",
        (true, false) => "",
    }
}
