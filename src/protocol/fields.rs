//! Fields of a text message between separators, found once and asked for by their place.

/// Most fields that are looked at; what follows them is not read.
const FIELDS_MAX: usize = 64;

/// The fields of a message, without white space around them.
pub(super) struct Fields<'a> {
    fields: [&'a [u8]; FIELDS_MAX],
    len: usize,
}

impl<'a> Fields<'a> {
    /// Cuts `text` at each comma.
    pub(super) fn new(text: &'a [u8]) -> Fields<'a> {
        let mut fields: [&[u8]; FIELDS_MAX] = [b""; FIELDS_MAX];
        let mut len = 0;
        for (place, field) in fields.iter_mut().zip(text.split(|&byte| byte == b',')) {
            *place = field.trim_ascii();
            len += 1;
        }
        Fields { fields, len }
    }

    /// Count of fields.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The field at that place; empty if there is none.
    pub(super) fn get(&self, at: usize) -> &'a [u8] {
        self.fields.get(at).copied().unwrap_or_default()
    }

    /// The fields from that place on.
    pub(super) fn from(&self, at: usize) -> &[&'a [u8]] {
        self.fields[..self.len].get(at..).unwrap_or_default()
    }

    /// A whole number.
    pub(super) fn number(&self, at: usize) -> Option<i64> {
        super::text::decimal(self.get(at), 0)
    }

    /// A whole number of a small size.
    pub(super) fn u8(&self, at: usize) -> Option<u8> {
        u8::try_from(self.number(at)?).ok()
    }

    /// A number with a fraction, at most three decimals of it.
    pub(super) fn float(&self, at: usize) -> Option<f64> {
        super::text::decimal(self.get(at), 3).map(|e3| e3 as f64 / 1e3)
    }

    /// Text that is ASCII and can be shown.
    pub(super) fn text(&self, at: usize) -> Option<&'a str> {
        printable(self.get(at))
    }
}

/// Text that is ASCII, can be shown and is not empty.
pub(super) fn printable(bytes: &[u8]) -> Option<&str> {
    let shown = |byte: &u8| (b' '..=b'~').contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && bytes.iter().all(shown) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_not_there_is_empty() {
        let fields = Fields::new(b"a, 1.5 ,,12");
        assert_eq!(fields.len(), 4);
        assert_eq!((fields.get(0), fields.get(2)), (&b"a"[..], &b""[..]));
        assert_eq!((fields.float(1), fields.u8(3)), (Some(1.5), Some(12)));
        assert_eq!(
            (fields.get(4), fields.get(999), fields.from(9)),
            (&b""[..], &b""[..], &[][..])
        );
    }

    #[test]
    fn fields_beyond_the_limit_are_not_read() {
        let fields = Fields::new(&[b','; 500]);
        assert_eq!(fields.len(), FIELDS_MAX);
    }
}
