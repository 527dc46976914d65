//! Files on a CocoonFs image.
//!
//! One lock is held over every operation: readers and writers take turns, so a
//! transaction never loses a race against another, and a read never meets a commit
//! half-way. Since the device blocks inside `poll`, futures are ready at their first
//! poll and are driven to their end before an operation returns.
//!
//! The one exception is a commit. It is answered when its journal is effective, that
//! is, written and flushed: at this moment CocoonFs calls back, the device holds all
//! further I/O back, the future becomes pending and is dropped. CocoonFs keeps the
//! commit and carries on with it, before anything else, in whatever operation comes
//! next.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use cocoon_tpm_crypto::CryptoError;
use cocoon_tpm_crypto::rng::RngCoreDispatchable;
use cocoon_tpm_storage::fs::cocoonfs::CocoonFs;
use cocoon_tpm_storage::fs::{
    NvFs, NvFsEnumerateCursor as _, NvFsError, NvFsFuture, NvFsReadContext, NvFsUnlinkCursor as _,
    PostCommitCallbackType, TransactionCommitError,
};
use cocoon_tpm_utils_async::sync_types::SyncRcPtr;
use cocoon_tpm_utils_common::alloc::box_try_new;

use super::files::{Change, FileData, FileId, Namespace, Space, Transaction, Volume, VolumeError};
use super::header::Footprint;
use super::nvblkdev::{DeviceControl, FsDevice};
use super::sync::SpinSyncTypes;

/// Polls a future gets before it is given up. One is enough; see the module's text.
const MAX_POLLS: u32 = 1000;

/// How often a transaction that lost a race is built anew. It cannot lose one.
const MAX_ATTEMPTS: u32 = 8;

pub(super) type Fs = CocoonFs<SpinSyncTypes, FsDevice>;
type Cursor = <Fs as NvFs>::EnumerateCursor;
pub(super) type FsPtr = <Fs as NvFs>::SyncRcPtr;
pub(super) type Rng = Box<dyn RngCoreDispatchable + Send>;

/// An open CocoonFs image.
pub struct CocoonVolume {
    state: spin::Mutex<State>,
}

struct State {
    fs: FsPtr,
    control: DeviceControl,
    rng: Rng,
    footprint: Footprint,
    /// Grows by one with every commit; wraps.
    update_counter: u128,
    /// A commit ended with [`VolumeError::OutcomeUnknown`] and has not been undone.
    indeterminate: bool,
}

impl core::fmt::Debug for CocoonVolume {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CocoonVolume(..)")
    }
}

impl CocoonVolume {
    /// An open file system on the device that `control` belongs to.
    pub(super) fn new(
        fs: FsPtr,
        control: DeviceControl,
        rng: Rng,
        footprint: Footprint,
        update_counter: u128,
    ) -> Self {
        Self {
            state: spin::Mutex::new(State {
                fs,
                control,
                rng,
                footprint,
                update_counter,
                indeterminate: false,
            }),
        }
    }

    /// A number that grows by one with every commit, from a random one on, and wraps.
    /// Authentic: CocoonFs refuses an image with another one than it was left with.
    pub fn update_counter(&self) -> u128 {
        self.state.lock().update_counter
    }
}

impl Volume for CocoonVolume {
    fn read(&self, file: FileId) -> Result<FileData, VolumeError> {
        let mut state = self.state.lock();
        state.recover()?;
        state
            .read(file)
            .inspect_err(|error| report(*error, format_args!("file {file}")))
    }

    fn list(&self, namespace: Namespace) -> Result<Vec<u32>, VolumeError> {
        let mut state = self.state.lock();
        state.recover()?;
        state
            .list(namespace)
            .inspect_err(|error| report(*error, format_args!("list of files")))
    }

    fn transaction(&self, mut transaction: Transaction) -> Result<(), VolumeError> {
        if transaction.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        state.recover()?;
        for _ in 0..MAX_ATTEMPTS {
            match state.try_transaction(&mut transaction) {
                Err(Failure::Retry) => {}
                Err(Failure::Final(error)) => {
                    report(error, format_args!("transaction"));
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
        Err(VolumeError::Internal)
    }

    fn space(&self) -> Result<Space, VolumeError> {
        let mut state = self.state.lock();
        state.recover()?;
        state
            .space()
            .inspect_err(|error| report(*error, format_args!("size of files")))
    }

    fn settle(&self) -> Result<(), VolumeError> {
        let mut state = self.state.lock();
        state.recover()?;
        state.start_reading().map(drop)
    }
}

/// Says in the log what nobody may miss, whatever the caller does with the error.
fn report(error: VolumeError, what: core::fmt::Arguments<'_>) {
    match error {
        VolumeError::AuthenticationFailed | VolumeError::OutcomeUnknown => {
            log::error!("persistence: {what}: {error}");
        }
        _ => {}
    }
}

/// Why one attempt at a transaction failed.
enum Failure {
    /// Another transaction was committed meanwhile; build this one anew.
    Retry,
    Final(VolumeError),
}

impl From<NvFsError> for Failure {
    fn from(error: NvFsError) -> Self {
        match error {
            NvFsError::Retry => Self::Retry,
            error => Self::Final(to_volume_error(error)),
        }
    }
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Self {
        Self::Final(error)
    }
}

fn to_volume_error(error: NvFsError) -> VolumeError {
    match error {
        NvFsError::NoSpace => VolumeError::NoSpace,
        NvFsError::MemoryAllocationFailure => VolumeError::NoMemory,
        NvFsError::IoError(_) => VolumeError::DeviceFailed,
        // What is parsed on an open volume was authenticated or should have been.
        NvFsError::AuthenticationFailure | NvFsError::FsFormatError(_) => {
            VolumeError::AuthenticationFailed
        }
        NvFsError::CryptoError(CryptoError::RngFailure) => VolumeError::NoRandomness,
        NvFsError::Internal
        | NvFsError::PermanentInternalFailure
        | NvFsError::Retry
        | NvFsError::OperationNotSupported
        | NvFsError::CryptoError(_)
        | NvFsError::DimensionsNotSupported
        | NvFsError::FailedDataUpdateRead
        | NvFsError::InodeReserved => VolumeError::Internal,
    }
}

impl State {
    /// Drives a future to its end; `None` where it does not come to one, as one that
    /// has made the device hold back.
    #[inline(never)]
    fn drive<F: NvFsFuture<Fs>>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let fs = SyncRcPtr::as_ref(&self.fs);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..MAX_POLLS {
            if let Poll::Ready(output) = future.as_mut().poll(&fs, &mut *self.rng, &mut context) {
                return Some(output);
            }
            if self.control.is_held_back() {
                break;
            }
        }
        None
    }

    /// Starts a sequence of reads, which finishes what a commit has left over.
    fn start_reading(&mut self) -> Result<<Fs as NvFs>::ConsistentReadSequence, VolumeError> {
        let start = Fs::start_read_sequence(&SyncRcPtr::as_ref(&self.fs));
        self.drive(start)
            .ok_or(VolumeError::Internal)?
            .map_err(to_volume_error)
    }

    /// Undoes a commit whose outcome is unknown, if there is one.
    fn recover(&mut self) -> Result<(), VolumeError> {
        if !self.indeterminate {
            return Ok(());
        }
        let cleanup = Fs::try_cleanup_indeterminate_commit_log(&SyncRcPtr::as_ref(&self.fs));
        self.drive(cleanup)
            .ok_or(VolumeError::Internal)?
            .map_err(to_volume_error)?;
        self.indeterminate = false;
        log::warn!("persistence: volume recovered, the interrupted transaction was undone");
        Ok(())
    }

    #[inline(never)]
    fn read(&mut self, file: FileId) -> Result<FileData, VolumeError> {
        let read = Fs::read_inode(&SyncRcPtr::as_ref(&self.fs), None, file.inode());
        let (_, result) = self
            .drive(read)
            .ok_or(VolumeError::Internal)?
            .map_err(to_volume_error)?;
        match result.map_err(to_volume_error)? {
            Some((_flags, data)) => Ok(data),
            None => Err(VolumeError::NotFound),
        }
    }

    /// A walk over the committed files whose inodes are in `inodes`.
    fn enumerate(&mut self, inodes: RangeInclusive<u64>) -> Result<Cursor, VolumeError> {
        let seq = self.start_reading()?;
        Fs::enumerate_cursor(
            &SyncRcPtr::as_ref(&self.fs),
            NvFsReadContext::Committed { seq },
            inodes,
        )
        .map_err(to_volume_error)?
        .map_err(|(_, error)| to_volume_error(error))
    }

    /// Sums up what all files take, those of unknown namespaces included. CocoonFs
    /// tells neither free blocks nor the size of a file but by reading it.
    #[inline(never)]
    fn space(&mut self) -> Result<Space, VolumeError> {
        let mut used = self.footprint.own_bytes;
        let mut cursor = self.enumerate(0..=u64::MAX)?;
        loop {
            let (returned, next) = self
                .drive(cursor.next())
                .ok_or(VolumeError::Internal)?
                .map_err(to_volume_error)?;
            if next.map_err(to_volume_error)?.is_none() {
                return Ok(Space {
                    total: self.footprint.image_bytes,
                    used: used.min(self.footprint.image_bytes),
                });
            }
            let (returned, data) = self
                .drive(returned.read_current_inode_data())
                .ok_or(VolumeError::Internal)?
                .map_err(to_volume_error)?;
            cursor = returned;
            let len = data.map_err(to_volume_error)?.len();
            used = used.saturating_add(self.footprint.of_file(len as u64));
        }
    }

    #[inline(never)]
    fn list(&mut self, namespace: Namespace) -> Result<Vec<u32>, VolumeError> {
        let mut cursor = self.enumerate(namespace.inodes())?;
        let mut indexes = Vec::new();
        loop {
            let (returned, next) = self
                .drive(cursor.next())
                .ok_or(VolumeError::Internal)?
                .map_err(to_volume_error)?;
            cursor = returned;
            let Some((inode, _flags)) = next.map_err(to_volume_error)? else {
                return Ok(indexes);
            };
            indexes.try_reserve(1).map_err(|_| VolumeError::NoMemory)?;
            // The upper half is the namespace: the cursor stays in its range.
            indexes.push(inode as u32);
        }
    }

    /// Stages and commits `transaction`, which keeps its data for another attempt.
    fn try_transaction(&mut self, transaction: &mut Transaction) -> Result<(), Failure> {
        let at_effect = self.hold_back_at_effect()?;
        let start = Fs::start_transaction(&SyncRcPtr::as_ref(&self.fs), None);
        let mut staged = self.drive(start).ok_or(VolumeError::Internal)??;
        for (file, change) in transaction.changes() {
            staged = match change {
                Change::Write(data) => self.stage_write(staged, *file, data)?,
                Change::Remove => self.stage_remove(staged, *file)?,
            };
        }
        self.commit(staged, at_effect)
    }

    #[inline(never)]
    fn stage_write(
        &mut self,
        staged: <Fs as NvFs>::Transaction,
        file: FileId,
        data: &mut FileData,
    ) -> Result<<Fs as NvFs>::Transaction, Failure> {
        // The flags of the inode stay as they are: nothing here has a use for them.
        let write = Fs::write_inode(
            &SyncRcPtr::as_ref(&self.fs),
            staged,
            file.inode(),
            0,
            0,
            core::mem::take(data),
        );
        let (returned, result) = self.drive(write).ok_or(VolumeError::Internal)?;
        *data = returned;
        let (staged, result) = result?;
        result?;
        Ok(staged)
    }

    #[inline(never)]
    fn stage_remove(
        &mut self,
        staged: <Fs as NvFs>::Transaction,
        file: FileId,
    ) -> Result<<Fs as NvFs>::Transaction, Failure> {
        let inode = file.inode();
        let mut cursor = Fs::unlink_cursor(&SyncRcPtr::as_ref(&self.fs), staged, inode..=inode)?
            .map_err(|(_, error)| error)?;
        let (returned, found) = self.drive(cursor.next()).ok_or(VolumeError::Internal)??;
        cursor = returned;
        if found?.is_some() {
            let (returned, result) = self
                .drive(cursor.unlink_current_inode())
                .ok_or(VolumeError::Internal)??;
            cursor = returned;
            result?;
        }
        Ok(cursor.into_transaction()?)
    }

    /// What CocoonFs is to do when a commit is effective.
    fn hold_back_at_effect(&self) -> Result<PostCommitCallbackType, VolumeError> {
        let control = self.control.clone();
        let callback = move |result: Result<(), TransactionCommitError>| {
            if result.is_ok() {
                control.hold_back();
            }
        };
        Ok(box_try_new(callback).map_err(|_| VolumeError::NoMemory)?)
    }

    /// Commits `staged`, at whose effect `at_effect` makes the device hold back.
    #[inline(never)]
    fn commit(
        &mut self,
        staged: <Fs as NvFs>::Transaction,
        at_effect: PostCommitCallbackType,
    ) -> Result<(), Failure> {
        let fs = SyncRcPtr::as_ref(&self.fs);
        // With the sync the journal is on the disk before it counts as effective.
        let commit = Fs::commit_transaction(&fs, staged, None, Some(at_effect), true);
        let outcome = self.drive(commit);
        if self.control.go_on() || matches!(outcome, Some(Ok(()))) {
            self.update_counter = self.update_counter.wrapping_add(1);
            return Ok(());
        }
        match outcome {
            Some(Err(TransactionCommitError::LogStateClean { reason })) => Err(reason.into()),
            Some(Ok(()) | Err(TransactionCommitError::LogStateIndeterminate { .. })) | None => {
                self.indeterminate = true;
                Err(VolumeError::OutcomeUnknown.into())
            }
        }
    }
}
