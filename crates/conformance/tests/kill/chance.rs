//! Random numbers that a seed repeats (xorshift64*; Vigna, "An experimental exploration of Marsaglia's xorshift
//! generators, scrambled"). Good enough to choose moments.

/// A generator.
pub struct Chance(u64);

impl Chance {
    /// From a seed; every seed gives a usable generator.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
