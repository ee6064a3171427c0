//! Check sums of the messages, bit by bit from their definitions.

/// XOR of all bytes.
pub fn xor(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum ^ byte)
}

/// Sum of all bytes, modulo 256.
pub fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, &byte| sum.wrapping_add(byte))
}

/// The eight-bit Fletcher sums of UBX.
pub fn fletcher(bytes: &[u8]) -> [u8; 2] {
    bytes.iter().fold([0_u8; 2], |[a, b], &byte| {
        let a = a.wrapping_add(byte);
        [a, b.wrapping_add(a)]
    })
}

/// CRC-16/ARC.
pub fn crc16_arc(bytes: &[u8]) -> u16 {
    reflected(0xa001, 0, bytes)
}

/// CRC-16/X-25.
pub fn crc16_x25(bytes: &[u8]) -> u16 {
    !reflected(0x8408, 0xffff, bytes)
}

/// CRC-16/KERMIT.
pub fn crc16_kermit(bytes: &[u8]) -> u16 {
    reflected(0x8408, 0, bytes)
}

fn reflected(polynomial: u16, initial: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(initial, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 != 0 { polynomial } else { 0 }
        })
    })
}
