//! The ring's and the state table's memory as their documents describe it, written down a second time.
//!
//! Shares nothing with the product, so that an encoder and a check that are wrong in the same way cannot agree. A change
//! of the product's layout has to be made here too; the first word of an S-page tells which layout it is.

/// First word of an S-page of this layout.
pub const RING_MAGIC: u64 = u64::from_le_bytes(*b"RWRING02");

/// Words of the S-page.
pub mod page {
    pub const MAGIC: usize = 0;
    pub const RING: usize = 1;
    pub const BIRTH: usize = 2;
    pub const SLOTS: usize = 3;
    pub const STRIDE: usize = 4;
    pub const ANSWERS: usize = 5;
    pub const GENERATION: usize = 16;
    pub const CLOSED: usize = 32;
    pub const BYTES: usize = 4096;
}

/// Words of the P-region.
pub mod producer {
    pub const TAIL: usize = 0;
    pub const CLOSED: usize = 16;
    pub const NAP: usize = 32;
    pub const WAKE_AT: usize = 33;
    pub const WANTS_ANSWERS: usize = 34;
    pub const RESYNC: usize = 48;
    pub const FIRST_SLOT: usize = 64;
}

/// Words of the C-region.
pub mod consumer {
    pub const HEAD: usize = 0;
    pub const ANSWERS: usize = 48;
}

/// Words of a slot's header: sequence, generation, length, checksum.
pub const SLOT_HEADER_WORDS: usize = 4;

/// Bytes of a P-region.
pub fn producer_bytes(slots: u32, stride: u32) -> usize {
    producer::FIRST_SLOT * 8 + slots as usize * stride as usize
}

/// Bytes of a C-region.
pub fn consumer_bytes(answers: u32) -> usize {
    (consumer::ANSWERS + answers as usize) * 8
}

/// Word of the P-region at which the slot of a sequence begins.
pub fn slot_word(slots: u32, stride: u32, seq: u64) -> usize {
    producer::FIRST_SLOT + (seq % u64::from(slots)) as usize * (stride as usize / 8)
}

/// The words of a slot that holds this record: what an honest producer writes.
pub fn slot_words(seq: u64, generation: u64, record: &[u8]) -> Vec<u64> {
    let mut words = vec![seq, generation, record.len() as u64, 0];
    words[3] = slot_checksum(seq, generation, record);
    words.extend(record.chunks(8).map(|chunk| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(bytes)
    }));
    words
}

/// Two halves of CRC-32C, each over every second word: four sums, begun with sequence, generation, length and nothing,
/// take a word of the record in turn; of a record that does not fill its last four words the rest counts as zeros. Then
/// the third sum goes into the first and the fourth into the second, shifted by half a word.
pub fn slot_checksum(seq: u64, generation: u64, record: &[u8]) -> u64 {
    let mut sums = [!0; 4];
    for (sum, word) in sums.iter_mut().zip([seq, generation, record.len() as u64]) {
        *sum = step(*sum, &word.to_le_bytes());
    }
    for four in record.chunks(32) {
        let mut padded = [0; 32];
        padded[..four.len()].copy_from_slice(four);
        for (sum, word) in sums.iter_mut().zip(padded.chunks(8)) {
            *sum = step(*sum, word);
        }
    }
    let shifted = |sum: u32| (u64::from(sum) << 32).to_le_bytes();
    let low = step(sums[0], &shifted(sums[2]));
    let high = step(sums[1], &shifted(sums[3]));
    u64::from(high) << 32 | u64::from(low)
}

/// CRC-32C (RFC 3720, appendix B.4) of two pieces of memory.
pub fn crc32c(head: &[u8], rest: &[u8]) -> u32 {
    !step(step(!0, head), rest)
}

/// Takes bytes into a sum, by a table that is made from the polynomial.
fn step(sum: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    bytes.iter().fold(sum, |sum, byte| {
        sum >> 8 ^ TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize]
    })
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

/// The state table.
pub mod table {
    pub const MAGIC: u64 = u64::from_le_bytes(*b"RWTABL02");
    /// Words of its head.
    pub const MAGIC_WORD: usize = 0;
    pub const USED_WORD: usize = 16;
    pub const PAYLOAD_BYTES_MAX: usize = FRONT_BYTES_MAX + REST_BYTES;
    const HEAD_BYTES: usize = 4096;
    const NEAR_BYTES: usize = 1024;
    const REST_BYTES: usize = 512;
    /// A near part holds the switch, in 64 bytes, and two copies of the front behind a header of 8 bytes.
    const COPY_BYTES: usize = 480;
    pub const FRONT_BYTES_MAX: usize = COPY_BYTES - 8;

    /// Bytes of a table.
    pub fn bytes(slots: u32) -> usize {
        HEAD_BYTES + slots as usize * (NEAR_BYTES + 2 * REST_BYTES)
    }

    /// Word of a slot's switch.
    pub fn switch_word(slot: u32) -> usize {
        (HEAD_BYTES + slot as usize * NEAR_BYTES) / 8
    }

    /// Bytes at which the header and the rest of a copy lie.
    pub fn copy(slots: u32, slot: u32, switch: u64) -> (usize, usize) {
        let copy = (switch % 2) as usize;
        let header = switch_word(slot) * 8 + 64 + copy * COPY_BYTES;
        let rests = HEAD_BYTES + slots as usize * NEAR_BYTES;
        (header, rests + (slot as usize * 2 + copy) * REST_BYTES)
    }

    /// The header of a payload: its length, and the checksum of slot, length and payload.
    pub fn header(slot: u32, payload: &[u8]) -> u64 {
        let length = payload.len() as u64;
        let mut head = [0; 16];
        head[..8].copy_from_slice(&u64::from(slot).to_ne_bytes());
        head[8..].copy_from_slice(&length.to_ne_bytes());
        let sum = super::crc32c(&head, payload);
        length << 32 | u64::from(sum)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_that_of_the_published_example() {
        // RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and counting up.
        let counting: Vec<u8> = (0..32).collect();
        for (bytes, sum) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&counting, 0x46dd_794e),
        ] {
            assert_eq!(super::crc32c(&bytes[..5], &bytes[5..]), sum);
        }
    }
}
