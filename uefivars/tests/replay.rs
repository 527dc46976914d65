//! Two boots of OVMF and Linux, recorded with QEMU, answered by this service.

use uefivars::host::replay::{Report, Rule, Step, read, replay};
use uefivars::memory::Memory;
use uefivars::{Config, Service};

const BOOT_1: &[u8] = include_bytes!("data/fedora-boot-1.pcap.gz");
const BOOT_2: &[u8] = include_bytes!("data/fedora-boot-2.pcap.gz");

fn boot(service: &mut Service<Memory>, recording: &[u8]) -> Report {
    let steps = read(recording).unwrap();
    assert_eq!(steps[0], Step::Reset);
    service.power_on().unwrap();
    replay(&steps, |buffer| {
        service.communicate_buffer(buffer).map(drop)
    })
    .unwrap()
}

fn show(report: &Report) {
    for difference in report.differences.iter() {
        println!("call {}: {:?}", difference.call, difference.rule);
        if difference.rule.is_none() {
            println!("  request  {:02x?}", &difference.request[24..]);
            println!("  recorded {:02x?}", &difference.recorded[24..]);
            println!("  answered {:02x?}", &difference.answered[24..]);
        }
    }
}

#[test]
fn recorded_boots() {
    let mut service = Service::new(Memory::default(), Config::default()).unwrap();
    let report = boot(&mut service, BOOT_1);
    show(&report);
    println!(
        "{} calls, {} same; commits {} bytes {}",
        report.calls,
        report.same,
        service.storage().commits,
        service.storage().bytes
    );
    let disk = service.into_storage().power_cycle();
    let mut service = Service::new(disk, Config::default()).unwrap();
    let report = boot(&mut service, BOOT_2);
    show(&report);
    println!(
        "{} calls, {} same; commits {} bytes {}",
        report.calls,
        report.same,
        service.storage().commits,
        service.storage().bytes
    );
    let _ = Rule::Enumeration;
}
