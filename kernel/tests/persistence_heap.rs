//! The heap does not grow with use. A test binary of its own, since it watches the
//! allocator; `SVSM_HEAP_COMMITS` sets the number of commits.
#![cfg(feature = "cocoonfs")]

use std::alloc::System;

use cap::Cap;
use svsm::persistence::{FileId, Namespace, Volume};

#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "persistence/support.rs"]
mod support;

use support::*;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

#[test]
fn commits_and_reads_leave_no_memory_behind() {
    let commits = std::env::var("SVSM_HEAP_COMMITS").map_or(300, |value| {
        value.parse().expect("SVSM_HEAP_COMMITS is a number")
    });
    let device = formatted_as(8 * MIB, 512, &project_layout(), &key());
    let volume = open_device(&device, &key()).unwrap();
    let file = FileId::new(Namespace::Vtpm, 1);
    let sizes = [64, 4096, 16384];
    let round = || {
        for size in sizes {
            write(&volume, file, &pattern(1, size)).unwrap();
            assert!(read(&volume, file).is_some_and(|data| data.len() == size));
        }
        volume.settle().unwrap();
    };
    for _ in 0..30 {
        round();
    }
    let before = HEAP.allocated();
    for _ in 0..commits / sizes.len() {
        round();
    }
    assert_eq!(HEAP.allocated(), before);
}
