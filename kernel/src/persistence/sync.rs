//! Locks for CocoonFs: spinning ones.
//!
//! CocoonFs promises to do no I/O and to allocate nothing while it holds one of
//! them, so nobody ever spins for long.

use cocoon_tpm_utils_async::sync_types;

/// A spinning mutex in the shape CocoonFs asks for.
pub struct SpinLock<T>(spin::Mutex<T>);

impl<T> From<T> for SpinLock<T> {
    fn from(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }
}

impl<T: Send> sync_types::Lock<T> for SpinLock<T> {
    type Guard<'a>
        = spin::MutexGuard<'a, T>
    where
        Self: 'a;

    fn lock(&self) -> Self::Guard<'_> {
        self.0.lock()
    }
}

impl<T: Send> sync_types::ConstructibleLock<T> for SpinLock<T> {
    fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// A spinning read-write lock in the shape CocoonFs asks for.
pub struct SpinRwLock<T>(spin::RwLock<T>);

impl<T> From<T> for SpinRwLock<T> {
    fn from(value: T) -> Self {
        Self(spin::RwLock::new(value))
    }
}

impl<T: Send + Sync> sync_types::RwLock<T> for SpinRwLock<T> {
    type ReadGuard<'a>
        = spin::RwLockReadGuard<'a, T>
    where
        Self: 'a;
    type WriteGuard<'a>
        = spin::RwLockWriteGuard<'a, T>
    where
        Self: 'a;

    fn read(&self) -> Self::ReadGuard<'_> {
        self.0.read()
    }

    fn write(&self) -> Self::WriteGuard<'_> {
        self.0.write()
    }

    fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// The kernel's locks and reference-counted pointers, for CocoonFs.
pub struct SpinSyncTypes;

impl sync_types::SyncTypes for SpinSyncTypes {
    type Lock<T: Send> = SpinLock<T>;
    type RwLock<T: Send + Sync> = SpinRwLock<T>;
    type SyncRcPtrFactory = sync_types::GenericArcFactory;
}
