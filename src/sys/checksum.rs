//! The checksum of a frame: two halves of CRC-32C, each over every second word.
//!
//! One CRC has to wait for the one before, three cycles a word; four that do not wait for each other keep up with the
//! copying beside which they are made. Of three words that stand before the record, the first begins the first sum, the
//! second the second, the third the third. The record's words 0, 4, 8.. go into the first, 1, 5, 9.. into the second and so
//! on; a record that does not end with a four of words is filled up with zeros, and its length is one of the three words.
//! At the end the third sum goes into the first and the fourth into the second, each shifted by half a word, so that words
//! that change places are noticed too. What one half has to find alone it finds as a CRC-32C over its words would.
//!
//! Pure, but for the instruction that does a step at once: whether the processor has it is asked in `region`.

/// What an empty CRC begins with, so that zeros have a checksum that is not zero.
const BEGIN: u64 = 0xffff_ffff;

/// The checksum of three words, of what `fours` yields four words at a time, and of a last four.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
pub fn by_instruction(
    head: [u64; 3],
    fours: impl Iterator<Item = [u64; 4]>,
    last: Option<[u64; 4]>,
) -> u64 {
    lanes(head, fours, last, |crc, word| {
        std::arch::x86_64::_mm_crc32_u64(crc, word)
    })
}

/// The same on any processor.
pub fn by_table(
    head: [u64; 3],
    fours: impl Iterator<Item = [u64; 4]>,
    last: Option<[u64; 4]>,
) -> u64 {
    lanes(head, fours, last, |crc, word| {
        u64::from(!crc32c::crc32c_append(!(crc as u32), &word.to_le_bytes()))
    })
}

#[inline(always)]
fn lanes(
    [seq, generation, length]: [u64; 3],
    fours: impl Iterator<Item = [u64; 4]>,
    last: Option<[u64; 4]>,
    step: impl Fn(u64, u64) -> u64,
) -> u64 {
    let mut a = step(BEGIN, seq);
    let mut b = step(BEGIN, generation);
    let mut c = step(BEGIN, length);
    let mut d = BEGIN;
    let mut take = |four: [u64; 4]| {
        a = step(a, four[0]);
        b = step(b, four[1]);
        c = step(c, four[2]);
        d = step(d, four[3]);
    };
    fours.for_each(&mut take);
    last.into_iter().for_each(take);
    step(b, d << 32) << 32 | step(a, c << 32)
}

/// Bytes as words of this processor.
pub fn to_words(bytes: [u8; 32]) -> [u64; 4] {
    let words = bytes.as_chunks().0;
    std::array::from_fn(|at| u64::from_ne_bytes(words[at]))
}

/// Words of this processor as bytes.
pub fn to_bytes(words: [u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_ne_bytes();
    }
    bytes
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// CRC-32C as its polynomial defines it, a bit at a time, without the inversions at both ends.
    fn crc_bit_by_bit(mut crc: u32, bytes: &[u8]) -> u32 {
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            }
        }
        crc
    }

    /// The checksum as the head of this file states it.
    pub fn bit_by_bit(head: [u64; 3], bytes: &[u8]) -> u64 {
        let mut sums = [!0u32; 4];
        for (sum, word) in sums.iter_mut().zip(head) {
            *sum = crc_bit_by_bit(*sum, &word.to_le_bytes());
        }
        for four in bytes.chunks(32) {
            let mut words = [0; 32];
            words[..four.len()].copy_from_slice(four);
            for (sum, word) in sums.iter_mut().zip(words.chunks(8)) {
                *sum = crc_bit_by_bit(*sum, word);
            }
        }
        let fold = |into, sum: u32| crc_bit_by_bit(into, &[[0; 4], sum.to_le_bytes()].concat());
        u64::from(fold(sums[1], sums[3])) << 32 | u64::from(fold(sums[0], sums[2]))
    }

    fn of(head: [u64; 3], bytes: &[u8]) -> u64 {
        let (fours, rest) = bytes.as_chunks();
        let mut last = [0; 32];
        last[..rest.len()].copy_from_slice(rest);
        let last = (!rest.is_empty()).then(|| to_words(last));
        by_table(head, fours.iter().copied().map(to_words), last)
    }

    #[test]
    fn the_table_agrees_with_the_definition() {
        // The check value of the catalogue of CRCs.
        assert_eq!(!crc_bit_by_bit(!0, b"123456789"), 0xe306_9283);
        let bytes: Vec<u8> = (0..200u32).map(|n| (n * n % 251) as u8).collect();
        for length in 0..bytes.len() {
            let (head, bytes) = ([7, u64::MAX - 3, length as u64], &bytes[..length]);
            assert_eq!(of(head, bytes), bit_by_bit(head, bytes), "{length} bytes");
        }
    }

    #[test]
    fn words_that_changed_places_have_another_checksum() {
        let mut bytes: [u8; 96] = std::array::from_fn(|n| n as u8);
        let good = of([1, 2, 96], &bytes);
        for first in 0..12 {
            for second in 0..first {
                bytes.as_chunks_mut::<8>().0.swap(first, second);
                let sum = of([1, 2, 96], &bytes);
                assert_ne!(sum, good, "words {first} and {second}");
                bytes.as_chunks_mut::<8>().0.swap(first, second);
            }
        }
    }

    #[test]
    fn zeros_do_not_have_the_checksum_zero() {
        assert_ne!(of([0; 3], &[]), 0);
        assert_ne!(of([0; 3], &[0; 64]), 0);
    }
}
