//! What persistence costs, counted at a block device in memory.
//!
//! Prints one flat JSON object: requests (reads, writes and flushes of the device) per
//! overwrite of a file on an 8 MiB image of the project's layout, in all and before the
//! caller has its answer; requests of a mount; bytes that the heap grows by in 10,000
//! commits. The counts do not depend on the machine. `SVSM_BENCH_COMMITS` replaces the
//! 10,000; the key then says so.
//!
//! With the argument `scale`: a table of images of three sizes with 10 to 1,000 files.

use std::alloc::System;

use cap::Cap;
use svsm::block::memory::{Counters, MemoryDevice};
use svsm::persistence::{CocoonVolume, FileId, Namespace, Transaction, Volume, file_data};

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/persistence/support.rs"]
mod support;

use support::{MIB, formatted_as, key, open_device, pattern, project_layout, write};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const FILE: FileId = FileId::new(Namespace::Vtpm, 1);

/// Overwrites that are counted; the most expensive one stands for all.
const ROUNDS: u64 = 8;

fn image(mib: usize) -> MemoryDevice {
    formatted_as(mib * MIB, 512, &project_layout(), &key())
}

fn open(device: &MemoryDevice) -> CocoonVolume {
    open_device(device, &key()).expect("an image that was just made opens")
}

/// What a mount asks of the device.
fn mount(device: &MemoryDevice) -> (CocoonVolume, Counters) {
    device.reset_counters();
    let volume = open(device);
    (volume, device.counters())
}

/// The most that an overwrite of `size` bytes asks of the device: before the answer,
/// and in all.
fn overwrite(device: &MemoryDevice, volume: &CocoonVolume, size: usize) -> (Counters, Counters) {
    let mut most = (Counters::default(), Counters::default());
    for round in 0..2 + ROUNDS {
        volume.settle().expect("the device works");
        device.reset_counters();
        write(volume, FILE, &pattern(round, size)).expect("there is space");
        let before = device.counters();
        volume.settle().expect("the device works");
        let all = device.counters();
        // The first ones create the file and fill caches.
        if round >= 2 && all.requests() > most.1.requests() {
            most = (before, all);
        }
    }
    most
}

/// Bytes by which the heap has grown after `commits` overwrites.
fn heap_growth(commits: u64) -> i64 {
    let device = image(8);
    let volume = open(&device);
    let data = pattern(0, 16 << 10);
    let commit = || write(&volume, FILE, &data).and_then(|()| volume.settle());
    for _ in 0..100 {
        commit().expect("the device works");
    }
    let before = HEAP.allocated();
    for _ in 0..commits {
        commit().expect("the device works");
    }
    HEAP.allocated() as i64 - before as i64
}

fn print_numbers() {
    let mut numbers = Vec::new();
    for size in [64, 4096, 16384, 65536, 262144] {
        let device = image(8);
        let volume = open(&device);
        let (before, all) = overwrite(&device, &volume, size);
        numbers.push((format!("commit.{size}.requests"), all.requests() as i64));
        numbers.push((
            format!("commit.{size}.requests_before_answer"),
            before.requests() as i64,
        ));
        numbers.push((format!("commit.{size}.flushes"), all.flushes as i64));
        numbers.push((
            format!("commit.{size}.bytes_written"),
            all.bytes_written as i64,
        ));
    }
    let (_, counters) = mount(&image(8));
    numbers.push(("mount.8MiB.requests".into(), counters.requests() as i64));
    numbers.push(("mount.8MiB.bytes_read".into(), counters.bytes_read as i64));
    // The power goes right behind an answer: the journal is still to be applied.
    let device = image(8);
    let volume = open(&device);
    write(&volume, FILE, &pattern(0, 16 << 10)).expect("there is space");
    volume.settle().expect("the device works");
    write(&volume, FILE, &pattern(1, 16 << 10)).expect("there is space");
    let (_, counters) = mount(&MemoryDevice::from_bytes(device.snapshot(), 512));
    numbers.push((
        "mount.8MiB.with_journal.requests".into(),
        counters.requests() as i64,
    ));
    let commits = std::env::var("SVSM_BENCH_COMMITS").map_or(10_000, |value| {
        value.parse().expect("SVSM_BENCH_COMMITS is a number")
    });
    numbers.push((
        format!("heap.growth_{commits}_commits"),
        heap_growth(commits),
    ));
    let lines: Vec<_> = numbers
        .iter()
        .map(|(name, value)| format!("  \"{name}\": {value}"))
        .collect();
    println!("{{\n{}\n}}", lines.join(",\n"));
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
            let (volume, mounted) = mount(&device);
            let heap = HEAP.allocated() - heap;
            device.reset_counters();
            let listed = volume.list(Namespace::Uefi).expect("the device works");
            assert_eq!(listed.len(), count as usize);
            let list = device.counters().requests();
            let (_, overwritten) = overwrite(&device, &volume, 4096);
            device.reset_counters();
            write(&volume, FileId::new(Namespace::Uefi, count), &[1; 64]).expect("there is space");
            volume.settle().expect("the device works");
            println!(
                "| {mib} MiB | {count} | {} | {} | {heap} | {list} | {} | {} | {} |",
                mounted.requests(),
                mounted.bytes_read,
                overwritten.requests(),
                overwritten.bytes_written,
                device.counters().requests()
            );
        }
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        None => print_numbers(),
        Some("scale") => print_scale(),
        Some(other) => {
            eprintln!("unknown argument {other}; there is: scale");
            std::process::exit(2);
        }
    }
}
