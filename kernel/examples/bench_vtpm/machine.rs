//! The TPM on a volume in memory, and what its commands ask of the device.

use std::sync::Arc;
use std::time::{Duration, Instant};

use svsm::block::memory::MemoryDevice;
use svsm::block::{BlockDevice, Counters};
use svsm::persistence::{CocoonVolume, Volume, boot_counter};
use svsm::services::{Tpm, vtpm};
use svsm::time::Clock;

use crate::support::{MIB, OsEntropy, formatted_as, key, open_device, project_layout};

struct HostClock(Instant);

impl Clock for HostClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What something asked of the device.
pub struct Asked {
    /// Until the answer.
    pub answered: Counters,
    /// With what is put in its place afterwards.
    pub all: Counters,
}

/// An SVSM with its disk, as far as the TPM needs it.
pub struct Machine {
    device: MemoryDevice,
    volume: Arc<CocoonVolume>,
    tpm: Box<dyn Tpm>,
}

impl Machine {
    /// A TPM that was made on a new volume.
    pub fn new() -> Self {
        Self::boot(formatted_as(8 * MIB, 512, &project_layout(), &key()))
    }

    fn boot(device: MemoryDevice) -> Self {
        let volume = Arc::new(open_device(&device, &key()).expect("the image opens"));
        boot_counter::count_boot(&*volume).expect("the device works");
        let tpm = vtpm::power_on(
            Some(volume.clone()),
            Box::leak(Box::new(OsEntropy)),
            Box::leak(Box::new(HostClock(Instant::now()))),
        )
        .expect("the TPM starts");
        volume.settle().expect("the device works");
        Self {
            device,
            volume,
            tpm,
        }
    }

    /// The next boot on the same disk.
    pub fn reboot(self) -> Self {
        let device = self.device.clone();
        drop(self);
        Self::boot(device)
    }

    /// Runs a command; the response, and what it asked of the device.
    pub fn run(&mut self, command: &[u8]) -> (Vec<u8>, Asked) {
        let mut response = Vec::new();
        let start = self.device.counters();
        self.tpm.execute(0, command, &mut response);
        let answered = self.device.counters().since(&start);
        self.volume.settle().expect("the device works");
        let all = self.device.counters().since(&start);
        (response, Asked { answered, all })
    }
}
