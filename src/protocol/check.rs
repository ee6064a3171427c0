//! Check sums of tracker protocols, under the names of the catalogue of CRC algorithms (reveng.sourceforge.io).

use crc::{CRC_16_ARC, CRC_16_IBM_SDLC, CRC_16_KERMIT, Crc, Table};

/// XOR of all bytes: JT/T 808, NMEA 0183. Eight at a time.
pub(super) fn xor(bytes: &[u8]) -> u8 {
    let (words, rest) = bytes.as_chunks();
    let words = words
        .iter()
        .fold(0, |sum, word| sum ^ u64::from_ne_bytes(*word));
    let halves = words ^ words >> 32;
    let quarters = halves ^ halves >> 16;
    rest.iter()
        .fold((quarters ^ quarters >> 8) as u8, |sum, byte| sum ^ byte)
}

/// CRC-16/ARC, also called CRC-16/IBM: Teltonika.
pub(super) fn crc16_arc(bytes: &[u8]) -> u16 {
    static CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_ARC);
    CRC.checksum(bytes)
}

/// CRC-16/X-25, also called CRC-ITU: GT06.
pub(super) fn crc16_x25(bytes: &[u8]) -> u16 {
    static CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_IBM_SDLC);
    CRC.checksum(bytes)
}

/// CRC-16/KERMIT: Ruptela.
pub(super) fn crc16_kermit(bytes: &[u8]) -> u16 {
    static CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_KERMIT);
    CRC.checksum(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogue.
    #[test]
    fn the_catalogue_agrees() {
        assert_eq!(crc16_arc(b"123456789"), 0xbb3d);
        assert_eq!(crc16_x25(b"123456789"), 0x906e);
        assert_eq!(crc16_kermit(b"123456789"), 0x2189);
    }

    #[test]
    fn eight_at_a_time_is_one_at_a_time() {
        let bytes: Vec<u8> = (0..40_u8).map(|n| n.wrapping_mul(73) ^ 0x5a).collect();
        for len in 0..bytes.len() {
            let bytes = &bytes[..len];
            assert_eq!(xor(bytes), bytes.iter().fold(0, |sum, byte| sum ^ byte));
        }
    }
}
