//! What persistence costs, counted at a block device in memory.
//!
//! Prints one flat JSON object with the same keys that the bench build of the kernel
//! logs: requests of the device per overwrite and per mount of an 8 MiB image of the
//! project's layout, growth of the heap in 10,000 commits. The counts do not depend on
//! the machine. `SVSM_BENCH_COMMITS` replaces the 10,000; the key then says so.
//!
//! With the argument `scale`: a table of images of three sizes with 10 to 1,000 files.
//! With the arguments `overwrites N`: overwrites 16 KiB N times and says how much CPU
//! time that took, in ns, to be compared between builds and between numbers.

use std::alloc::System;

use cap::Cap;
use svsm::bench::costs::{Bench, Part, SIZES, overwrite};
use svsm::block::memory::MemoryDevice;
use svsm::block::{BlockDevice, Counters};
use svsm::persistence::{
    CocoonVolume, FileId, Namespace, Transaction, Volume, boot_counter, file_data,
};
use svsm::platform;

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/persistence/support.rs"]
mod support;

use support::{MIB, formatted_as, key, open_device, pattern, project_layout, write};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

fn image(mib: usize) -> MemoryDevice {
    formatted_as(mib * MIB, 512, &project_layout(), &key())
}

fn open(device: &MemoryDevice) -> CocoonVolume {
    open_device(device, &key()).expect("an image that was just made opens")
}

fn print_numbers() {
    let commits = std::env::var("SVSM_BENCH_COMMITS").map_or(10_000, |value| {
        value.parse().expect("SVSM_BENCH_COMMITS is a number")
    });
    let mut parts: Vec<_> = SIZES.into_iter().map(Part::Overwrite).collect();
    parts.extend([Part::Mount, Part::Growth(commits)]);
    let mut lines = Vec::new();
    for part in parts {
        let device = image(8);
        // As every boot does.
        let volume = open(&device);
        boot_counter::count_boot(&volume).expect("the device works");
        volume.settle().expect("the device works");
        drop(volume);
        Bench {
            device: &device,
            open: &|| open_device(&device, &key()),
            heap: &|| HEAP.allocated() as u64,
            conversions: &platform::pages_converted,
        }
        .run(part, &mut |key, value| {
            lines.push(format!("  \"{key}\": {value}"))
        })
        .expect("the device works");
    }
    println!("{{\n{}\n}}", lines.join(",\n"));
}

/// What `action` asks of the device.
fn asked<T>(device: &MemoryDevice, action: impl FnOnce() -> T) -> (T, Counters) {
    let before = device.counters();
    let result = action();
    (result, device.counters().since(&before))
}

fn print_scale() {
    println!(
        "| image | files | mount: requests | bytes | heap | list: requests | overwrite 4 KiB: requests | bytes written | create 64 B: requests |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for mib in [8, 64, 256] {
        for count in [10u32, 100, 1000] {
            let device = image(mib);
            let volume = open(&device);
            for first in (0..count).step_by(50) {
                let mut transaction = Transaction::new();
                for index in first..count.min(first + 50) {
                    let data = file_data(&pattern(index.into(), 256)).expect("there is memory");
                    transaction
                        .write(FileId::new(Namespace::Uefi, index), data)
                        .expect("there is memory");
                }
                volume.transaction(transaction).expect("there is space");
            }
            volume.settle().expect("the device works");
            drop(volume);

            let heap = HEAP.allocated();
            let (volume, mounted) = asked(&device, || open(&device));
            let heap = HEAP.allocated() - heap;
            let (listed, list) = asked(&device, || volume.list(Namespace::Uefi));
            assert_eq!(listed.expect("the device works").len(), count as usize);
            let overwritten = (0..10)
                .map(|round| {
                    let (_, counters) = asked(&device, || {
                        overwrite(&volume, 4096, round).expect("there is space");
                        volume.settle().expect("the device works");
                    });
                    counters
                })
                .skip(2)
                .max_by_key(Counters::requests)
                .unwrap_or_default();
            let (_, created) = asked(&device, || {
                write(&volume, FileId::new(Namespace::Uefi, count), &[1; 64])
                    .expect("there is space");
                volume.settle().expect("the device works");
            });
            println!(
                "| {mib} MiB | {count} | {} | {} | {heap} | {} | {} | {} | {} |",
                mounted.requests(),
                mounted.bytes_read,
                list.requests(),
                overwritten.requests(),
                overwritten.bytes_written,
                created.requests()
            );
        }
    }
}

/// CPU time of this process in ns.
fn cpu_time() -> u128 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("the system counts time");
    let first = stat.split(' ').next().expect("a number");
    first.parse().expect("a number")
}

fn print_overwrites(count: u64) {
    let volume = open(&image(8));
    let run = |count| {
        for round in 0..count {
            overwrite(&volume, 16 << 10, round).expect("the device works");
            volume.settle().expect("the device works");
        }
    };
    run(10);
    let start = cpu_time();
    run(count);
    println!("{}", cpu_time() - start);
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => print_numbers(),
        ["scale"] => print_scale(),
        ["overwrites", count] => print_overwrites(count.parse().expect("a number")),
        _ => {
            eprintln!("arguments: none, `scale`, or `overwrites N`");
            std::process::exit(2);
        }
    }
}
