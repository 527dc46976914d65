//! What is on a volume, as a value to compare, and transactions between such values.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use svsm::block::BlockDevice;
use svsm::entropy::{Entropy, EntropyError};
use svsm::persistence::{
    CocoonVolume, FileId, FormatPolicy, Namespace, Transaction, Volume, VolumeError, VolumeKey,
    file_data, open_first,
};

use crate::report::Random;
use crate::support::{key, pattern};

/// Number of files that a transaction here may touch.
pub const FILES: usize = 8;

/// Sizes of files in bytes.
pub const SIZES: [usize; 5] = [0, 1, 64, 4096, 20480];

/// The n-th file; they are spread over two namespaces.
pub const fn file(n: usize) -> FileId {
    let namespace = if n.is_multiple_of(2) {
        Namespace::Vtpm
    } else {
        Namespace::Uefi
    };
    FileId::new(namespace, n as u32)
}

/// Files with their contents.
pub type State = BTreeMap<FileId, Vec<u8>>;

/// Randomness without system calls: every proof mounts thousands of times.
struct FastEntropy(AtomicU64);

impl Entropy for FastEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        let mut random = Random::new(self.0.fetch_add(1 << 32, Ordering::Relaxed));
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// Opens what is on `device`, or formats it.
pub fn open(device: &Arc<dyn BlockDevice>) -> Option<CocoonVolume> {
    static ENTROPY: FastEntropy = FastEntropy(AtomicU64::new(1));
    static KEY: LazyLock<VolumeKey> = LazyLock::new(key);
    let devices = std::slice::from_ref(device);
    open_first(devices, &KEY, &ENTROPY, FormatPolicy::Allow)
}

/// Everything on `volume`. Besides the files that are listed it looks for each that
/// there may be, so that list and reads must agree.
pub fn read_all(volume: &dyn Volume) -> Result<State, VolumeError> {
    let mut state = State::new();
    for n in 0..FILES {
        match volume.read(file(n)) {
            Ok(data) => _ = state.insert(file(n), data.to_vec()),
            Err(VolumeError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    for namespace in [Namespace::Vtpm, Namespace::Uefi] {
        let listed = volume.list(namespace)?;
        let present = state.keys().filter(|file| file.namespace == namespace);
        assert!(
            present.map(|file| file.index).eq(listed),
            "the list does not agree with the files"
        );
    }
    Ok(state)
}

/// Makes `volume` go from state `from` to state `to` in one transaction, rewriting
/// every file whose contents differ.
pub fn go(volume: &dyn Volume, from: &State, to: &State) -> Result<(), VolumeError> {
    let mut transaction = Transaction::new();
    for n in 0..FILES {
        match (from.get(&file(n)), to.get(&file(n))) {
            (Some(_), None) => _ = transaction.remove(file(n))?,
            (old, Some(new)) if old != Some(new) => {
                transaction.write(file(n), file_data(new)?)?;
            }
            _ => {}
        }
    }
    volume.transaction(transaction)
}

/// A state after `from` that differs in `count` files: written, overwritten or, one in
/// four of those that are there, removed.
pub fn next_state(from: &State, count: usize, random: &mut Random) -> State {
    let mut state = from.clone();
    let first = random.below(FILES);
    for n in 0..count {
        let file = file((first + n) % FILES);
        if state.contains_key(&file) && random.below(4) == 0 {
            state.remove(&file);
        } else {
            let size = SIZES[random.below(SIZES.len())];
            // An empty file or one of a byte may come out the same: a seed that is
            // kept apart from all others is in the first byte then.
            state.insert(file, pattern(random.next(), size));
        }
    }
    state
}
