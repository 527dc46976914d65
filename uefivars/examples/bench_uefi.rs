//! What two recorded boots of OVMF and Linux hand to storage, one line for each number:
//! name and value. A "set" is a call that asks for a change of what is stored.

use std::time::Instant;

use uefivars::host::replay::{Step, read, replay};
use uefivars::memory::Memory;
use uefivars::{Config, Service, guids};

const BOOTS: [&[u8]; 2] = [
    include_bytes!("../tests/data/fedora-boot-1.pcap.gz"),
    include_bytes!("../tests/data/fedora-boot-2.pcap.gz"),
];

/// Whether this is SetVariable of a non-volatile variable.
fn is_set(request: &[u8]) -> bool {
    request[..16] == guids::MM_VARIABLE.to_bytes()
        && request[24..32] == 3_u64.to_le_bytes()
        && request[72] & 1 == 1
}

fn main() {
    let mut disk = Memory::default();
    for (number, boot) in BOOTS.into_iter().enumerate() {
        let number = number + 1;
        let steps = read(boot).expect("a recording");
        let sets = steps
            .iter()
            .filter(|step| matches!(step, Step::Call { request, .. } if is_set(request)))
            .count();
        let mut service = Service::new(disk, Config::default()).expect("the store loads");
        let start = Instant::now();
        let report = replay(&steps, |buffer| {
            service.communicate_buffer(buffer).map(drop)
        })
        .expect("sizes fit");
        let time = start.elapsed();
        assert_eq!(report.unjustified().count(), 0);
        println!("uefi.boot{number}.calls {}", report.calls);
        println!("uefi.boot{number}.sets {sets}");
        println!("uefi.boot{number}.commits {}", service.storage().commits);
        println!("uefi.boot{number}.bytes {}", service.storage().bytes);
        println!("uefi.boot{number}.us {}", time.as_micros());
        disk = service.into_storage().power_cycle();
    }
}
