//! Numbers by chance, the same in each run.

/// The state: any number to begin with.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number of 31 bits.
    pub(crate) fn next(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap()
    }

    /// A number below the limit.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }
}
