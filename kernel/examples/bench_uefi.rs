//! What two recorded boots of OVMF and Linux hand to storage, and what the volume makes of
//! that: a line for each number, key and value. The counts do not depend on the machine.
//!
//! A "set" is a call that asks for a change of what is stored; bytes are those of the
//! records; device bytes and requests are those of a CocoonFs volume of the project's layout
//! after everything is settled.

use std::sync::Arc;
use std::time::Instant;

use svsm::block::BlockDevice;
use svsm::persistence::{CocoonVolume, Volume};
use svsm::services::uefi;
use uefivars::host::replay::{Step, read, replay};
use uefivars::memory::Memory;
use uefivars::{Config, Service, guids};

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/persistence/support.rs"]
mod support;

use support::{MIB, formatted_as, key, open_device, project_layout};

const BOOTS: [&[u8]; 2] = [
    include_bytes!("../../uefivars/tests/data/fedora-boot-1.pcap.gz"),
    include_bytes!("../../uefivars/tests/data/fedora-boot-2.pcap.gz"),
];

/// Whether this is SetVariable of a non-volatile variable.
fn is_set(request: &[u8]) -> bool {
    request[..16] == guids::MM_VARIABLE.to_bytes()
        && request[24..32] == 3_u64.to_le_bytes()
        && request[72] & 1 == 1
}

fn main() {
    let mut disk = Memory::default();
    let device = formatted_as(8 * MIB, 512, &project_layout(), &key());
    for (number, boot) in (1..).zip(BOOTS) {
        let steps = read(boot).expect("a recording");
        let show = |what: &str, value: u64| println!("uefi.boot{number}.{what} {value}");
        let sets = steps
            .iter()
            .filter(|step| matches!(step, Step::Call { request, .. } if is_set(request)));
        show("calls", steps.len() as u64 - 1);
        show("sets", sets.count() as u64);

        let mut service = Service::new(disk, Config::default()).expect("the store loads");
        let start = Instant::now();
        let report = replay(&steps, |buffer| {
            service.communicate_buffer(buffer).map(drop)
        })
        .expect("sizes fit");
        show("us", start.elapsed().as_micros() as u64);
        assert_eq!(report.unjustified().count(), 0);
        show("commits", service.storage().commits);
        show("bytes", service.storage().bytes);
        disk = service.into_storage().power_cycle();

        let volume: Arc<CocoonVolume> = Arc::new(open_device(&device, &key()).expect("opens"));
        let mut service = uefi::start(Some(volume.clone()), &[]).expect("the store loads");
        let before = device.counters();
        let report = replay(&steps, |buffer| {
            let guid = *buffer.first_chunk().expect("a header");
            let length = u64::from_le_bytes(buffer[16..24].try_into().expect("a length"));
            service.communicate(&guid, &mut buffer[24..][..length as usize]);
            Ok::<_, std::convert::Infallible>(())
        })
        .expect("never fails");
        assert_eq!(report.unjustified().count(), 0);
        volume.settle().expect("the device works");
        let used = device.counters().since(&before);
        show("device_bytes", used.bytes_written);
        show("requests", used.requests());
    }
}
