//! Measurements and workloads on a volume, for the booted kernel and for the host.
//!
//! Counts do not depend on the machine: [`costs`] run in the kernel on a virtio device
//! and on the host on a device in memory give the same numbers. Nothing of this is in a
//! production image.
#![forbid(unsafe_code)]

pub mod costs;
pub mod writes;

use crate::persistence::VolumeError;

/// Why a measurement or a workload ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BenchError {
    /// There is nothing to measure on.
    #[error("bench: no volume")]
    NoVolume,
    /// The volume failed.
    #[error("bench: {0}")]
    Volume(#[from] VolumeError),
    /// The files are not those of any transaction.
    #[error("bench: file vtpm/{file} is not as transaction {transaction} left it")]
    Torn {
        /// Index of the file.
        file: u32,
        /// The transaction that the volume says was the last.
        transaction: u64,
    },
    /// There is a file that no transaction left.
    #[error("bench: there are other files than transaction {0} left")]
    OtherFiles(u64),
}

/// `len` bytes that differ from those of another `seed`.
pub fn pattern(seed: u64, len: usize) -> impl Iterator<Item = u8> {
    let mut state = Sequence(seed);
    (0..len).map(move |_| (state.next() >> 56) as u8)
}

/// A SplitMix64 generator: the same numbers for the same seed, on every machine.
struct Sequence(u64);

impl Sequence {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
