//! The demonstration: a counter of boots in a file.

use super::files::{FileId, Namespace, Transaction, Volume, VolumeError, file_data};

/// Where the counter is kept: 8 bytes, little-endian.
pub const BOOT_COUNTER: FileId = FileId::new(Namespace::System, 1);

/// Why the counter could not be moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BootCounterError {
    #[error("reading the boot counter failed: {0}")]
    Read(VolumeError),
    #[error("the boot counter has {0} bytes, not 8")]
    Length(usize),
    #[error("the boot counter is at its limit")]
    Overflow,
    #[error("writing the boot counter failed: {0}")]
    Write(VolumeError),
}

/// Reads the counter, moves it on by one and says both in the log. Returns its new
/// value; a failure is in the log, too.
///
/// # Errors
///
/// [`BootCounterError`]. The file is as it was, unless the outcome of writing it is
/// unknown.
pub fn count_boot(volume: &dyn Volume) -> Result<u64, BootCounterError> {
    let result = try_count(volume);
    match &result {
        Ok(_) => log::info!("persistence demo: successfully wrote updated boot counter"),
        Err(error) => log::error!("persistence demo: {error}"),
    }
    result
}

fn try_count(volume: &dyn Volume) -> Result<u64, BootCounterError> {
    let boots = match volume.read(BOOT_COUNTER) {
        Ok(data) => {
            let bytes = <[u8; 8]>::try_from(data.as_slice())
                .map_err(|_| BootCounterError::Length(data.len()))?;
            let boots = u64::from_le_bytes(bytes);
            log::info!("persistence demo: boot counter read back is {boots}");
            boots
        }
        Err(VolumeError::NotFound) => {
            log::info!("persistence demo: no boot counter found yet");
            0
        }
        Err(error) => return Err(BootCounterError::Read(error)),
    };
    let boots = boots.checked_add(1).ok_or(BootCounterError::Overflow)?;
    write(volume, boots).map_err(BootCounterError::Write)?;
    Ok(boots)
}

fn write(volume: &dyn Volume, boots: u64) -> Result<(), VolumeError> {
    let mut transaction = Transaction::new();
    transaction.write(BOOT_COUNTER, file_data(&boots.to_le_bytes())?)?;
    volume.transaction(transaction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::memory::MemoryVolume;

    fn set(volume: &MemoryVolume, data: &[u8]) {
        let mut transaction = Transaction::new();
        transaction
            .write(BOOT_COUNTER, file_data(data).unwrap())
            .unwrap();
        volume.transaction(transaction).unwrap();
    }

    #[test]
    fn counts_from_one() {
        let volume = MemoryVolume::new(100);
        assert_eq!(count_boot(&volume), Ok(1));
        assert_eq!(count_boot(&volume), Ok(2));
        assert_eq!(
            volume.read(BOOT_COUNTER).unwrap().as_slice(),
            2u64.to_le_bytes()
        );
    }

    #[test]
    fn a_file_of_another_length_is_left_alone() {
        let volume = MemoryVolume::new(100);
        for len in [0, 7, 9] {
            set(&volume, &[1; 9][..len]);
            assert_eq!(count_boot(&volume), Err(BootCounterError::Length(len)));
            assert_eq!(volume.read(BOOT_COUNTER).unwrap().len(), len);
        }
    }

    #[test]
    fn the_last_value_is_not_passed() {
        let volume = MemoryVolume::new(100);
        set(&volume, &[0xff; 8]);
        assert_eq!(count_boot(&volume), Err(BootCounterError::Overflow));
    }

    #[test]
    fn failures_of_the_volume_are_told() {
        let volume = MemoryVolume::new(100);
        volume.fail_next(VolumeError::AuthenticationFailed);
        assert_eq!(
            count_boot(&volume),
            Err(BootCounterError::Read(VolumeError::AuthenticationFailed))
        );
        assert_eq!(
            count_boot(&MemoryVolume::new(7)),
            Err(BootCounterError::Write(VolumeError::NoSpace))
        );
    }
}
