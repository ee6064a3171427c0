//! Check sums of tracker protocols, under the names of the catalogue of CRC algorithms (reveng.sourceforge.io).

use crc::{Algorithm, CRC_16_ARC, CRC_16_IBM_SDLC, CRC_16_KERMIT, Crc, Table};

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
    static CRC: Blocks = Crc::<u16, Table<16>>::new(&CRC_16_ARC);
    checksum(&CRC, [], bytes)
}

/// CRC-16/X-25, also called CRC-ITU: GT06.
pub(super) fn crc16_x25(bytes: &[u8]) -> u16 {
    static CRC: Blocks = Crc::<u16, Table<16>>::new(&Algorithm {
        init: 0,
        ..CRC_16_IBM_SDLC
    });
    // From 0 these lead to ffff, with which this sum begins.
    checksum(&CRC, [0x21, 0xf3], bytes)
}

/// CRC-16/KERMIT: Ruptela.
pub(super) fn crc16_kermit(bytes: &[u8]) -> u16 {
    static CRC: Blocks = Crc::<u16, Table<16>>::new(&CRC_16_KERMIT);
    checksum(&CRC, [], bytes)
}

/// A sum that begins with 0 and takes blocks of sixteen bytes at a time.
type Blocks = Crc<u16, Table<BLOCK_BYTES>>;

const BLOCK_BYTES: usize = 16;

/// The sum of `before` and `bytes`. A message is short, and single bytes take longer than blocks, so that what is no
/// whole block is made one by zeros in front of all, which change nothing.
fn checksum<const N: usize>(crc: &Blocks, before: [u8; N], bytes: &[u8]) -> u16 {
    let (first, blocks) = bytes.split_at(bytes.len() % BLOCK_BYTES);
    let mut head = [0; 2 * BLOCK_BYTES];
    let at = head.len() - first.len();
    head[at..].copy_from_slice(first);
    head[at - N..at].copy_from_slice(&before);
    let mut digest = crc.digest();
    match first.len() + N {
        0 => {}
        1..=BLOCK_BYTES => digest.update(&head[BLOCK_BYTES..]),
        _ => digest.update(&head),
    }
    digest.update(blocks);
    digest.finalize()
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
    fn sums_of_any_length_are_those_of_the_catalogue() {
        let bytes: Vec<u8> = (0..100_u8).map(|n| n.wrapping_mul(73) ^ 0x5a).collect();
        for len in 0..bytes.len() {
            let bytes = &bytes[..len];
            let sums = [crc16_arc(bytes), crc16_x25(bytes), crc16_kermit(bytes)];
            let plain = [CRC_16_ARC, CRC_16_IBM_SDLC, CRC_16_KERMIT].map(|algorithm| {
                Crc::<u16, Table<1>>::new(Box::leak(Box::new(algorithm))).checksum(bytes)
            });
            assert_eq!(sums, plain, "{len} bytes");
        }
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
