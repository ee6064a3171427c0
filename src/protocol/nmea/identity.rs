//! Ids of trackers that pass a receiver's sentences on and put their own name around them. A bare receiver has none.

use crate::frame::DeviceId;

/// Lengths of ids that are believed: a serial number, an IMEI or an ICCID, not the rest of a damaged sentence.
const ID_BYTES: std::ops::RangeInclusive<usize> = 8..=20;

/// A line or field that is an id: digits, with a few capital letters at most, so that noise is not one.
pub(super) fn identity(text: &[u8]) -> Option<DeviceId> {
    let digits = text.iter().filter(|b| b.is_ascii_digit()).count();
    let plausible = ID_BYTES.contains(&text.len())
        && text
            .iter()
            .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        && digits * 2 > text.len();
    if plausible { DeviceId::new(text) } else { None }
}

/// The id before a sentence (the last of parts set off by `/`) or in the fields behind its check.
pub(super) fn stated_around(before: &[u8], after: &[u8]) -> Option<DeviceId> {
    let in_front = before
        .split(|&b| b == b'/')
        .rev()
        .find(|part| !part.is_empty())
        .and_then(identity);
    in_front.or_else(|| {
        let fields = after.strip_prefix(b",")?.split(|&b| b == b',');
        fields.filter(|field| field.len() == 15).find_map(identity)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_the_rest_of_a_damaged_sentence() {
        assert!(identity(b"490154203237518").is_some());
        assert!(identity(b"086415031C20").is_some());
        for noise in [
            &b""[..],
            b"1234567",
            b"38,N,0113",
            b"4807.038",
            b"ABCDEFGH1",
        ] {
            assert_eq!(identity(noise), None);
        }
    }

    #[test]
    fn ids_are_found_before_and_behind_a_sentence() {
        let id =
            |before: &[u8], after: &[u8]| stated_around(before, after).map(|id| id.to_string());
        assert_eq!(
            id(b"12/490154203237518/", b"").as_deref(),
            Some("490154203237518")
        );
        assert_eq!(
            id(b"", b",11,490154203237518,1").as_deref(),
            Some("490154203237518")
        );
        assert_eq!(id(b"", b"490154203237518"), None);
    }
}
