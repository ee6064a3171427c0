//! An input as a list of steps of one size: what is cut or glued stays a list of steps.

/// One step: what, two small numbers and a large one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub kind: u8,
    pub a: u8,
    pub b: u8,
    pub v: u64,
}

/// Most steps of one input: it ends in bounded time.
const STEPS_MAX: usize = 64;

impl Step {
    pub const BYTES: usize = 11;

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend([self.kind, self.a, self.b]);
        out.extend(self.v.to_le_bytes());
    }

    /// The steps of an input; what is missing at the end counts as zeros.
    pub fn all(bytes: &[u8]) -> impl Iterator<Item = Step> {
        bytes.chunks(Step::BYTES).take(STEPS_MAX).map(|chunk| {
            let mut fixed = [0; Step::BYTES];
            fixed[..chunk.len()].copy_from_slice(chunk);
            let [kind, a, b, v @ ..] = fixed;
            Step {
                kind,
                a,
                b,
                v: u64::from_le_bytes(v),
            }
        })
    }
}

/// Pseudo-random words (splitmix64, Steele 2014).
pub fn words(seed: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |n| {
        let mut x = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    })
}

/// Pseudo-random bytes.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words(seed)
        .take(length.div_ceil(8))
        .flat_map(u64::to_le_bytes)
        .collect();
    bytes.truncate(length);
    bytes
}
