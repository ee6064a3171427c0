//! What Ringway reads in an X.509 certificate itself: how long it is valid and whose it is (RFC 5280, 4.1).
//!
//! That a certificate is sound, and that somebody who is trusted signed it, is left to the TLS library, which does not
//! tell these two things.

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, ErrorKind, Reader, Result, SliceReader, Tag, Tagged};

/// The attribute type of a common name, 2.5.4.3, as its DER contents (X.520).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What is read in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// It is valid up to here, seconds since 1970.
    pub not_after_s: u64,
    /// The common name of its subject; `None` if there is none, more than one, or one that is not ASCII.
    pub common_name: Option<&'a str>,
}

impl Facts<'_> {
    /// Reads a certificate.
    ///
    /// # Errors
    /// Where it is not what RFC 5280 says.
    pub fn of(certificate: &[u8]) -> Result<Facts<'_>> {
        let mut certificate = within(AnyRef::from_der(certificate)?)?;
        let mut signed = within(certificate.decode()?)?;
        let version_or_serial: AnyRef<'_> = signed.decode()?;
        if version_or_serial.tag() != Tag::Integer {
            let _serial: AnyRef<'_> = signed.decode()?;
        }
        let (_algorithm, _issuer) = (
            signed.decode::<AnyRef<'_>>()?,
            signed.decode::<AnyRef<'_>>()?,
        );
        let mut validity = within(signed.decode()?)?;
        let (_not_before, not_after) = (validity.decode::<AnyRef<'_>>()?, validity.decode()?);
        Ok(Facts {
            not_after_s: seconds(not_after)?,
            common_name: common_name(signed.decode()?)?,
        })
    }
}

fn within(value: AnyRef<'_>) -> Result<SliceReader<'_>> {
    SliceReader::new(value.value())
}

fn seconds(time: AnyRef<'_>) -> Result<u64> {
    let since_1970 = match time.tag() {
        Tag::UtcTime => time.decode_as::<UtcTime>()?.to_unix_duration(),
        Tag::GeneralizedTime => time.decode_as::<GeneralizedTime>()?.to_unix_duration(),
        _ => return Err(ErrorKind::DateTime.into()),
    };
    Ok(since_1970.as_secs())
}

/// A name is a sequence of sets of attributes, each a type and a value.
fn common_name(name: AnyRef<'_>) -> Result<Option<&str>> {
    let mut found = Vec::new();
    let mut name = within(name)?;
    while !name.is_finished() {
        let mut set = within(name.decode()?)?;
        while !set.is_finished() {
            let mut attribute = within(set.decode()?)?;
            let (kind, value): (AnyRef<'_>, AnyRef<'_>) =
                (attribute.decode()?, attribute.decode()?);
            if kind.tag() == Tag::ObjectIdentifier && kind.value() == COMMON_NAME {
                found.push(value);
            }
        }
    }
    // Two names, or an encoding in which the same bytes are other characters, could be read as one thing here and as
    // another where the certificate was signed.
    let [name] = found[..] else {
        return Ok(None);
    };
    let plain = matches!(
        name.tag(),
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String
    );
    let text = std::str::from_utf8(name.value()).ok();
    Ok(text.filter(|text| plain && text.is_ascii()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(names: &[&str], not_after_year: i32) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "depot");
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(not_after_year, 1, 2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    /// RFC 5280, 4.1.2.5: dates up to 2049 are UTCTime, later ones GeneralizedTime.
    #[test]
    fn both_forms_of_a_date_are_read() {
        // Days from 1970 to the second of January of that year, by hand: 56 and 80 years with 14 and 20 leap days.
        let days = |years: u64, leap_days: u64| (365 * years + leap_days + 1) * 86_400;
        let near = certificate(&["863"], 2026);
        assert_eq!(Facts::of(&near).unwrap().not_after_s, days(56, 14));
        let far = certificate(&["863"], 2050);
        assert_eq!(Facts::of(&far).unwrap().not_after_s, days(80, 20));
    }

    #[test]
    fn a_common_name_is_read_if_it_is_the_only_one_and_ascii() {
        let name = |names: &[&str]| {
            let der = certificate(names, 2030);
            Facts::of(&der).unwrap().common_name.map(str::to_owned)
        };
        assert_eq!(
            name(&["863719010000001"]).as_deref(),
            Some("863719010000001")
        );
        assert_eq!(name(&[]), None);
        assert_eq!(name(&["caf\u{e9}"]), None);
    }

    #[test]
    fn every_cut_of_a_certificate_is_an_error_or_its_facts() {
        let der = certificate(&["863"], 2030);
        let whole = Facts::of(&der).unwrap();
        for length in 0..der.len() {
            assert!(Facts::of(&der[..length]).is_err(), "{length}");
            // A bit that is wrong changes what is read or is found; nothing else happens.
            let mut bent = der.clone();
            bent[length] ^= 0x80;
            let _ = Facts::of(&bent);
        }
        assert_eq!(whole.common_name, Some("863"));
    }
}
