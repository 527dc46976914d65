//! A volume whose commits the key broker is told of.
//!
//! A commit is durable before it is reported, so no interruption leaves the ledger ahead of
//! the disk. What the server asked for says when it is answered:
//!
//! - `commit`: at once. The ledger is behind by what happened since the report under way was
//!   made, or since reports stopped getting through, and that is how far the host can roll
//!   the volume back unseen. Commits made while one report is under way become one report.
//! - `strict`: when the report is acknowledged, so nothing that was answered can be rolled
//!   back. Where a report does not get through, the machine stops: what the commit was for
//!   was neither answered nor may it be forgotten, and whether it counts is found out at the
//!   next boot, which takes the disk with it or without it.

#![forbid(unsafe_code)]

use crate::attest::{Ledger, ReportError, Reporter};
use crate::drivers::stream::ByteStream;
use crate::exec;
use crate::fatal;
use crate::persistence::freshness::Standing;
use crate::persistence::{
    CocoonVolume, FileData, FileId, Namespace, Space, Transaction, Volume, VolumeError,
};
use alloc::vec::Vec;
use core::task::Poll;

/// A [`CocoonVolume`] that reports its commits.
pub struct LedgeredVolume<S: ByteStream> {
    volume: CocoonVolume,
    standing: Standing,
    reporter: spin::Mutex<Reporter<'static, S>>,
}

impl<S: ByteStream> core::fmt::Debug for LedgeredVolume<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("LedgeredVolume(..)")
    }
}

impl<S: ByteStream> LedgeredVolume<S> {
    /// `volume`, which `reporter` has reported as open with `standing`.
    pub fn new(volume: CocoonVolume, standing: Standing, reporter: Reporter<'static, S>) -> Self {
        Self {
            volume,
            standing,
            reporter: spin::Mutex::new(reporter),
        }
    }

    /// Reports a commit: under `strict` until it is acknowledged, otherwise as soon as the
    /// report before it is.
    fn report(&self) {
        let commits = self.standing.commits(&self.volume);
        let mut reporter = self.reporter.lock();
        let result = reporter
            .commit(commits)
            .and_then(|()| match reporter.mode() {
                Ledger::Strict => exec::block_on(reporter.settle()),
                Ledger::Off | Ledger::Boot | Ledger::Commit => match reporter.poll() {
                    Poll::Ready(result) => result,
                    Poll::Pending => Ok(()),
                },
            });
        if let Err(error) = result {
            judge(reporter.mode(), &error);
        }
    }
}

/// Goes on after an error that has to do with the way to the server, which the next
/// commit tries again; stops after any other: then the server has refused the report,
/// because another machine uses the volume, or somebody plays the server. Under `strict`
/// there is no going on without an acknowledgement.
fn judge(mode: Ledger, error: &ReportError) {
    if error.is_passing() && mode != Ledger::Strict {
        log::error!("ledger: commits are not reported at the moment: {error}");
    } else {
        fatal::stop(format_args!("ledger: {error}"));
    }
}

impl<S: ByteStream + Send> Volume for LedgeredVolume<S> {
    fn read(&self, file: FileId) -> Result<FileData, VolumeError> {
        self.volume.read(file)
    }

    fn list(&self, namespace: Namespace) -> Result<Vec<u32>, VolumeError> {
        self.volume.list(namespace)
    }

    fn transaction(&self, transaction: Transaction) -> Result<(), VolumeError> {
        if transaction.is_empty() {
            return Ok(());
        }
        self.volume.transaction(transaction)?;
        self.report();
        Ok(())
    }

    fn space(&self) -> Result<Space, VolumeError> {
        self.volume.space()
    }

    /// Also waits for the acknowledgement of what was reported.
    fn settle(&self) -> Result<(), VolumeError> {
        let settled = self.volume.settle();
        let mut reporter = self.reporter.lock();
        if let Err(error) = exec::block_on(reporter.settle()) {
            judge(reporter.mode(), &error);
        }
        settled
    }
}
