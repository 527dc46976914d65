//! A stream of transactions that may be interrupted anywhere, and the check of what an
//! interruption left.
//!
//! What a transaction does follows from its number alone, so the number of the last one,
//! which is on the volume too, says what every file must contain.

use super::{BenchError, Sequence, pattern};
use crate::persistence::{
    FileData, FileId, Namespace, Transaction, Volume, VolumeError, file_data,
};
use alloc::vec::Vec;

/// The file with the number of the last transaction: 8 bytes, little-endian.
const LAST: FileId = FileId::new(Namespace::Vtpm, 0x1000);

/// The other files, by index.
const FILES: core::ops::Range<u32> = 0x1001..0x100d;

/// Largest file in bytes.
const MAX_SIZE: u64 = 12 << 10;

/// Most files that one transaction changes, besides [`LAST`].
const MAX_CHANGES: u64 = 8;

/// What transaction `number` does: files, each with its new size or none where it is
/// removed. A later entry for a file replaces an earlier one.
fn changes(number: u64) -> impl Iterator<Item = (u32, Option<usize>)> {
    let mut sequence = Sequence(number);
    let count = 1 + sequence.below(MAX_CHANGES);
    (0..count).map(move |_| {
        let file = FILES.start + sequence.below(u64::from(FILES.end - FILES.start)) as u32;
        let removed = sequence.below(6) == 0;
        let size = sequence.below(MAX_SIZE) as usize;
        (file, (!removed).then_some(size))
    })
}

fn contents(number: u64, file: u32, size: usize) -> impl Iterator<Item = u8> {
    pattern(number << 16 | u64::from(file), size)
}

/// Runs transactions from where the volume stands, `count` of them, and logs each one
/// that is acknowledged.
///
/// # Errors
///
/// [`BenchError`].
pub fn run(volume: &dyn Volume, count: u64) -> Result<(), BenchError> {
    let last = verify(volume)?;
    log::info!("bench: files are as transaction {last} left them");
    for number in last.saturating_add(1)..=last.saturating_add(count) {
        let mut transaction = Transaction::new();
        transaction.write(LAST, file_data(&number.to_le_bytes())?)?;
        for (file, size) in changes(number) {
            let id = FileId::new(Namespace::Vtpm, file);
            match size {
                Some(size) => {
                    let data = contents(number, file, size).collect::<Vec<_>>();
                    transaction.write(id, FileData::new(data))?
                }
                None => transaction.remove(id)?,
            };
        }
        volume.transaction(transaction)?;
        log::info!("bench: transaction {number} acknowledged");
    }
    Ok(())
}

/// The number of the last transaction, provided that every file is as it left it.
///
/// # Errors
///
/// [`BenchError`].
pub fn verify(volume: &dyn Volume) -> Result<u64, BenchError> {
    let last = match volume.read(LAST) {
        Ok(data) => <[u8; 8]>::try_from(data.as_slice())
            .map(u64::from_le_bytes)
            .map_err(|_| BenchError::Torn {
                file: LAST.index,
                transaction: 0,
            })?,
        Err(VolumeError::NotFound) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut expected = Vec::new();
    if last > 0 {
        expected.push(LAST.index);
    }
    for file in FILES {
        let written = (1..=last).rev().find_map(|number| {
            let change = changes(number).filter(|change| change.0 == file).last()?;
            Some((number, change.1))
        });
        let torn = BenchError::Torn {
            file,
            transaction: last,
        };
        match (written, volume.read(FileId::new(Namespace::Vtpm, file))) {
            (Some((number, Some(size))), Ok(data)) => {
                if !contents(number, file, size).eq(data.iter().copied()) {
                    return Err(torn);
                }
                expected.push(file);
            }
            (None | Some((_, None)), Err(VolumeError::NotFound)) => {}
            (_, Ok(_) | Err(VolumeError::NotFound)) => return Err(torn),
            (_, Err(error)) => return Err(error.into()),
        }
    }
    if volume.list(Namespace::Vtpm)? != expected {
        return Err(BenchError::OtherFiles(last));
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::MemoryVolume;

    fn set(volume: &MemoryVolume, file: u32, data: &[u8]) {
        let mut transaction = Transaction::new();
        let id = FileId::new(Namespace::Vtpm, file);
        transaction.write(id, file_data(data).unwrap()).unwrap();
        volume.transaction(transaction).unwrap();
    }

    #[test]
    fn every_state_on_the_way_is_recognised() {
        let volume = MemoryVolume::new(1 << 20);
        for last in 0..300 {
            assert_eq!(verify(&volume), Ok(last));
            run(&volume, 1).unwrap();
        }
    }

    #[test]
    fn a_state_in_between_is_not_taken_for_one() {
        let volume = MemoryVolume::new(1 << 20);
        run(&volume, 50).unwrap();
        // The number of a transaction whose other files are not there.
        for wrong in [49u64, 51] {
            set(&volume, LAST.index, &wrong.to_le_bytes());
            assert!(
                matches!(verify(&volume), Err(BenchError::Torn { transaction, .. }) if transaction == wrong)
            );
        }
        set(&volume, LAST.index, &50u64.to_le_bytes());
        assert_eq!(verify(&volume), Ok(50));
        // One file changed, and one too many.
        let index = volume.list(Namespace::Vtpm).unwrap()[3];
        let id = FileId::new(Namespace::Vtpm, index);
        let good = volume.read(id).unwrap();
        set(&volume, index, &[good.as_slice(), b"x"].concat());
        assert!(matches!(verify(&volume), Err(BenchError::Torn { file, .. }) if file == index));
        set(&volume, index, &good);
        set(&volume, FILES.end, b"");
        assert_eq!(verify(&volume), Err(BenchError::OtherFiles(50)));
    }
}
