//! What persistence asks of a device, of the heap and of the host.

use super::{BenchError, pattern};
use crate::block::{BlockDevice, Counters};
use crate::persistence::{CocoonVolume, FileData, FileId, Namespace, Transaction, Volume};
use alloc::format;
use alloc::vec::Vec;

/// Sizes of the files that are overwritten, in bytes.
pub const SIZES: [usize; 5] = [64, 4 << 10, LARGE, 64 << 10, 256 << 10];

/// The size at which more is looked at.
const LARGE: usize = 16 << 10;

/// Overwrites that are not counted: the first ones create the file and fill caches.
const WARM_UP: u64 = 2;

/// Overwrites that are counted; the most expensive one stands for all.
const ROUNDS: u64 = 8;

/// Overwrites before the heap is looked at for the first time.
const SETTLING: u64 = 100;

/// What is measured on, and what else can be asked there.
pub struct Bench<'a> {
    /// The device the volume is on: a fresh image for each part that is measured, since
    /// what came before shows in the numbers.
    pub device: &'a dyn BlockDevice,
    /// Opens the volume, which is the only one on the device.
    pub open: &'a dyn Fn() -> Option<CocoonVolume>,
    /// Bytes in use on the heap.
    pub heap: &'a dyn Fn() -> u64,
    /// Pages that were made visible to the host so far.
    pub conversions: &'a dyn Fn() -> u64,
}

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Overwriting a file of so many bytes.
    Overwrite(usize),
    /// So many commits of 16 KiB.
    Growth(u64),
    /// Opening the volume.
    Mount,
}

impl core::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Bench(..)")
    }
}

impl Bench<'_> {
    /// Opens the volume, measures, and gives each number to `report` with its key.
    ///
    /// # Errors
    ///
    /// [`BenchError`].
    pub fn run(&self, part: Part, report: &mut dyn FnMut(&str, i64)) -> Result<(), BenchError> {
        match part {
            Part::Overwrite(size) => self.overwrites(size, report),
            Part::Growth(commits) => self.growth(commits, report),
            Part::Mount => self.mounts(report),
        }
    }

    fn open(&self) -> Result<CocoonVolume, BenchError> {
        (self.open)().ok_or(BenchError::NoVolume)
    }

    /// The most that an overwrite of `size` bytes asks of the device: before the
    /// answer, and in all.
    fn overwrites(&self, size: usize, report: &mut dyn FnMut(&str, i64)) -> Result<(), BenchError> {
        let volume = self.open()?;
        volume.settle()?;
        let mut most = (Counters::default(), Counters::default());
        for round in 0..WARM_UP + ROUNDS {
            let start = self.device.counters();
            overwrite(&volume, size, round)?;
            let answered = self.device.counters().since(&start);
            volume.settle()?;
            let all = self.device.counters().since(&start);
            if round >= WARM_UP && all.requests() > most.1.requests() {
                most = (answered, all);
            }
        }
        let (answered, all) = most;
        for (what, count) in [
            ("requests", all.requests()),
            ("requests_before_answer", answered.requests()),
            ("flushes", all.flushes),
            ("bytes_written", all.bytes_written),
        ] {
            report(&format!("commit.{size}.{what}"), count as i64);
        }
        Ok(())
    }

    /// Bytes by which the heap grows in many commits, and pages converted meanwhile.
    fn growth(&self, commits: u64, report: &mut dyn FnMut(&str, i64)) -> Result<(), BenchError> {
        let volume = self.open()?;
        let used = || ((self.heap)(), (self.conversions)());
        let mut before = used();
        for round in 0..SETTLING + commits {
            if round == SETTLING {
                before = used();
            }
            overwrite(&volume, LARGE, round)?;
            volume.settle()?;
        }
        let after = used();
        let growth = after.0.wrapping_sub(before.0);
        report(&format!("heap.growth_{commits}_commits"), growth as i64);
        let converted = after.1.wrapping_sub(before.1);
        report("commit.page_conversions", converted as i64);
        Ok(())
    }

    /// What mounts ask of the device: after an orderly end, and where the journal of
    /// the last commit is still to be applied.
    fn mounts(&self, report: &mut dyn FnMut(&str, i64)) -> Result<(), BenchError> {
        let mebibytes = self.device.geometry().bytes() >> 20;
        for journal in ["", "with_journal."] {
            let start = self.device.counters();
            let volume = self.open()?;
            let mount = self.device.counters().since(&start);
            let key = format!("mount.{mebibytes}MiB.{journal}");
            report(&format!("{key}requests"), mount.requests() as i64);
            report(&format!("{key}bytes_read"), mount.bytes_read as i64);
            // The next mount finds the journal as a loss of power leaves it.
            volume.settle()?;
            overwrite(&volume, LARGE, 0)?;
        }
        Ok(())
    }
}

/// Overwrites the file of `size` bytes.
///
/// # Errors
///
/// [`BenchError::Volume`].
pub fn overwrite(volume: &dyn Volume, size: usize, round: u64) -> Result<(), BenchError> {
    let file = FileId::new(Namespace::Vtpm, size as u32);
    let data = FileData::new(pattern(round, size).collect::<Vec<_>>());
    let mut transaction = Transaction::new();
    transaction.write(file, data)?;
    Ok(volume.transaction(transaction)?)
}
