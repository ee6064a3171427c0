//! Who reports: the identifier that a device states, in a form that is safe in a log, a topic and a URL.

use std::fmt;

/// Most bytes of a device id.
pub const DEVICE_ID_BYTES_MAX: usize = 31;

/// A device's own name for itself: 1 to 31 characters of `A-Z a-z 0-9 . _ : -`. Tracker protocols carry an identifier,
/// not a secret; it proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    bytes: [u8; DEVICE_ID_BYTES_MAX],
    len: u8,
}

impl DeviceId {
    /// Takes an identifier as sent; `None` if it is empty, too long or has other characters.
    pub fn new(id: &[u8]) -> Option<DeviceId> {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        if id.is_empty() || id.len() > DEVICE_ID_BYTES_MAX || !id.iter().all(allowed) {
            return None;
        }
        let mut bytes = [0; DEVICE_ID_BYTES_MAX];
        bytes[..id.len()].copy_from_slice(id);
        Some(DeviceId {
            bytes,
            len: id.len() as u8,
        })
    }

    /// The characters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The characters as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("the alphabet is ASCII")
    }

    /// 32 bytes: length, then the characters padded with zeros.
    pub fn encode(&self) -> [u8; DEVICE_ID_BYTES_MAX + 1] {
        let mut out = [0; DEVICE_ID_BYTES_MAX + 1];
        out[0] = self.len;
        out[1..].copy_from_slice(&self.bytes);
        out
    }

    /// Reads what [`DeviceId::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8; DEVICE_ID_BYTES_MAX + 1]) -> Option<DeviceId> {
        DeviceId::new(bytes[1..].get(..usize::from(bytes[0]))?)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for DeviceId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for DeviceId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<DeviceId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        DeviceId::new(text.as_bytes())
            .ok_or_else(|| serde::de::Error::custom("device id is not valid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_outside_the_alphabet_or_length_are_refused() {
        for bad in [&b""[..], b"a b", b"a/b", b"a+", b"#", &[0xff], &[b'1'; 32]] {
            assert_eq!(DeviceId::new(bad), None);
        }
        assert_eq!(DeviceId::new(&[b'1'; 31]).unwrap().as_bytes().len(), 31);
    }
}
