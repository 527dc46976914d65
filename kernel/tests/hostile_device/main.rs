//! A virtio block device that cheats, and one that does not.
//!
//! The driver runs here as it runs in the kernel, with rings and buffers in a pool of
//! shared memory; the device is a test that may do anything to that memory. Whatever
//! it does, a call ends, with an error that says what is wrong, and never panics.

mod fake;
#[path = "../proofs/report.rs"]
#[allow(dead_code, reason = "shared with the other proofs")]
mod report;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fake::{Behaviour, CLOCK, Chain, Device, FLUSH, Fake, VERSION_1, set_status};
use report::{Random, amount, record};
use svsm::block::{BlockDevice, BlockError, Geometry, Run};
use svsm::drivers::virtio::block::{OpenError, VirtioBlock};
use svsm::mm::shared::{POOL_SIZE, SharedBuffer, init_on_host};

const DISK: usize = 1 << 20;

/// The longest that one call may take by the fake clock, in milliseconds: the driver
/// waits for 30 seconds after each answer, and there are a few dozen requests at most.
const PATIENCE: u64 = 30_000;

type Answer = Result<(), BlockError>;
type Opened = (VirtioBlock<Fake>, Arc<Mutex<Device>>);

/// One test at a time: they share the pool, and count its pages.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    init_on_host();
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    assert_nothing_leaked();
    guard
}

/// All of the pool is free.
fn assert_nothing_leaked() {
    SharedBuffer::allocate(POOL_SIZE).expect("nobody holds shared memory");
}

fn try_open(device: Device, behaviour: Behaviour) -> Result<Opened, OpenError> {
    let (fake, handle) = Fake::new(device, behaviour);
    Ok((VirtioBlock::open(fake, &CLOCK)?, handle))
}

fn open(behaviour: Behaviour) -> Opened {
    try_open(Device::new(DISK), behaviour).expect("a device like any other")
}

fn good() -> Behaviour {
    Box::new(Device::serve_all)
}

/// What each kind of call says of a device that behaves so. Afterwards the device is
/// dead where it has to be, and nothing is held of the pool.
fn answers(behaviour: fn() -> Behaviour) -> [Answer; 4] {
    let calls: [fn(&VirtioBlock<Fake>) -> Answer; 4] = [
        |driver| driver.read(8, &mut [0; 4096]),
        |driver| driver.write(8, &[7; 4096]),
        |driver| {
            let data = [7; 1024];
            let run = |block| Run { block, data: &data };
            driver.write_runs(&[run(0), run(10), run(20), run(30)])
        },
        |driver| driver.flush(),
    ];
    calls.map(|call| {
        let (driver, device) = open(behaviour());
        let before = CLOCK.looks();
        let answer = call(&driver);
        assert!(CLOCK.looks() - before < 2 * PATIENCE, "took too long");
        if let Err(error @ (BlockError::TimedOut | BlockError::Protocol)) = answer {
            let (looks, notifications) = (CLOCK.looks(), device.lock().unwrap().notifications);
            assert!(device.lock().unwrap().status.is_empty(), "not reset");
            assert_eq!(driver.read(0, &mut [0; 512]), Err(error));
            assert_eq!(driver.write(0, &[0; 512]), Err(error));
            assert_eq!(driver.flush(), Err(error));
            assert_eq!(CLOCK.looks(), looks, "a dead device is not waited for");
            assert_eq!(device.lock().unwrap().notifications, notifications);
        }
        drop(driver);
        assert_nothing_leaked();
        answer
    })
}

/// A behaviour that serves every request and lets `complete` announce it.
fn completing(mut complete: impl FnMut(&mut Device, Chain, u32) + Send + 'static) -> Behaviour {
    Box::new(move |device| {
        while let Some(chain) = device.take() {
            let written = device.serve(&chain);
            complete(device, chain, written);
        }
    })
}

const PROTOCOL: [Answer; 4] = [Err(BlockError::Protocol); 4];

#[test]
fn an_honest_device_reads_back_what_was_written() {
    let _alone = alone();
    let (driver, device) = open(good());
    assert_eq!(
        driver.geometry(),
        Geometry {
            block_size: 512,
            block_count: (DISK / 512) as u64,
            read_only: false,
            needs_flush: true,
            write_through: false,
        }
    );
    // One block, a window, more than a window, everything.
    for (block, size) in [(3, 512), (0, 256 << 10), (5, 700 << 10), (0, DISK)] {
        let data: Vec<u8> = (0..size).map(|n| (n * 7 / 5 + size) as u8).collect();
        driver.write(block, &data).unwrap();
        assert_eq!(
            device.lock().unwrap().disk[block as usize * 512..][..size],
            data
        );
        let mut back = vec![0; size];
        driver.read(block, &mut back).unwrap();
        assert!(back == data, "{size}");
        driver.flush().unwrap();
    }
    // More runs than there are slots.
    let blocks: Vec<Vec<u8>> = (0..50).map(|n| vec![n as u8; 1024]).collect();
    let runs: Vec<_> = (0..50)
        .map(|n| Run {
            block: n * 5,
            data: &blocks[n as usize],
        })
        .collect();
    driver.write_runs(&runs).unwrap();
    for (n, block) in blocks.iter().enumerate() {
        assert_eq!(device.lock().unwrap().disk[n * 5 * 512..][..1024], *block);
    }
    drop(driver);
    assert_nothing_leaked();
}

#[test]
fn requests_outside_the_device_never_reach_it() {
    let _alone = alone();
    let (driver, device) = open(good());
    let end = (DISK / 512) as u64;
    for block in [end, end + 1, u64::MAX, u64::MAX / 512] {
        assert_eq!(
            driver.read(block, &mut [0; 512]),
            Err(BlockError::OutOfRange)
        );
        assert_eq!(driver.write(block, &[0; 512]), Err(BlockError::OutOfRange));
    }
    assert_eq!(driver.read(0, &mut [0; 100]), Err(BlockError::OutOfRange));
    assert_eq!(
        driver.write(end - 1, &[0; 1024]),
        Err(BlockError::OutOfRange)
    );
    assert_eq!(device.lock().unwrap().notifications, 0);
}

#[test]
fn answers_may_come_in_any_order() {
    let _alone = alone();
    let backwards: Behaviour = Box::new(|device| {
        let mut chains: Vec<_> = std::iter::from_fn(|| device.take()).collect();
        chains.reverse();
        for chain in chains {
            let written = device.serve(&chain);
            device.complete(chain.id.into(), written);
        }
    });
    let (driver, device) = open(backwards);
    for _ in 0..100 {
        let blocks: Vec<Vec<u8>> = (0..40).map(|n| vec![n as u8 + 1; 512]).collect();
        let run = |n: usize| Run {
            block: 2 * n as u64,
            data: &blocks[n],
        };
        driver
            .write_runs(&(0..40).map(run).collect::<Vec<_>>())
            .unwrap();
    }
    for n in 0..40 {
        assert_eq!(device.lock().unwrap().disk[n * 1024], n as u8 + 1);
    }
}

#[test]
fn a_silent_device_times_out() {
    let _alone = alone();
    let timed_out = [Err(BlockError::TimedOut); 4];
    assert_eq!(answers(|| Box::new(|_| {})), timed_out);
    // It takes requests and never answers, or answers all but one.
    assert_eq!(
        answers(|| Box::new(|device| while device.take().is_some() {})),
        timed_out
    );
    let but_one = answers(|| {
        let mut first = true;
        completing(move |device, chain, written| {
            if !std::mem::take(&mut first) {
                device.complete(chain.id.into(), written);
            }
        })
    });
    assert_eq!(but_one, timed_out);
}

#[test]
fn a_forged_id_is_a_violation() {
    let _alone = alone();
    let forgeries: [fn(u16) -> u32; 5] = [
        |id| u32::from(id) + 1,
        |id| u32::from(id) + 3,
        |_| 63,
        |_| 64,
        |_| u32::MAX,
    ];
    for forge in forgeries {
        for call in 0..4 {
            // A request in the middle of a batch may be named by a forged id; then the
            // answer that follows is the forgery.
            let (driver, _) = open(completing(move |device, chain, written| {
                device.complete(forge(chain.id), written);
            }));
            let answer = match call {
                0 => driver.read(0, &mut [0; 512]),
                1 => driver.write(0, &[0; 512]),
                2 => driver.write_runs(&[0, 2, 4, 6, 8].map(|block| Run {
                    block,
                    data: &[1; 512],
                })),
                _ => driver.flush(),
            };
            assert_eq!(answer, Err(BlockError::Protocol));
        }
    }
}

#[test]
fn an_answer_given_twice_is_a_violation() {
    let _alone = alone();
    let (driver, device) = open(completing(|device, chain, written| {
        device.complete(chain.id.into(), written);
        device.complete(chain.id.into(), written);
    }));
    // The first request is answered; the second answer belongs to none, and is not
    // taken for that to the next request.
    assert_eq!(driver.flush(), Ok(()));
    assert_eq!(driver.flush(), Err(BlockError::Protocol));
    assert_eq!(device.lock().unwrap().notifications, 1);

    // An answer before there is a question, and one entry too many.
    for ahead in [1, 2, 63, 64, 65, 1000, u16::MAX] {
        let (driver, device) = open(good());
        device.lock().unwrap().move_used(ahead);
        let answer = driver.write(0, &[0; 512]);
        assert_eq!(answer, Err(BlockError::Protocol), "{ahead}");
        assert_eq!(device.lock().unwrap().notifications, 0);
    }
}

#[test]
fn a_wrong_length_is_a_violation() {
    let _alone = alone();
    let lengths: [fn(u32) -> u32; 4] = [
        |_| 0,
        |_| u32::MAX,
        |length| length - 1,
        |length| length + 1,
    ];
    for forge in lengths {
        let answer = |driver: &VirtioBlock<Fake>, call| match call {
            0 => driver.read(0, &mut [0; 1024]),
            1 => driver.write(0, &[0; 1024]),
            _ => driver.flush(),
        };
        for call in 0..3 {
            let (driver, _) = open(completing(move |device, chain, written| {
                device.complete(chain.id.into(), forge(written));
            }));
            assert_eq!(answer(&driver, call), Err(BlockError::Protocol));
        }
    }
}

#[test]
fn nothing_of_a_short_read_is_taken_for_data() {
    let _alone = alone();
    let (driver, _) = open(Box::new(|device| {
        while let Some(chain) = device.take() {
            // Claims to have written the status byte, and nothing else.
            set_status(&chain, 0);
            device.complete(chain.id.into(), 1);
        }
    }));
    let mut buffer = [0x5a; 512];
    assert_eq!(driver.read(0, &mut buffer), Err(BlockError::Protocol));
    assert_eq!(buffer, [0x5a; 512]);
}

#[test]
fn each_status_has_its_error() {
    let _alone = alone();
    for status in 0..=u8::MAX {
        let (driver, _) = open(completing(move |device, chain, written| {
            set_status(&chain, status);
            device.complete(chain.id.into(), written);
        }));
        let expected = match status {
            0 => Ok(()),
            1 => Err(BlockError::Io),
            2 => Err(BlockError::Unsupported),
            _ => Err(BlockError::Protocol),
        };
        assert_eq!(driver.read(0, &mut [0; 512]), expected, "{status}");
        // Errors of a request are not the end of the device.
        assert_eq!(driver.write(0, &[0; 512]), expected, "{status}");
        assert_eq!(driver.flush(), expected, "{status}");
    }
    // The status is not written at all.
    let unwritten = answers(|| {
        Box::new(|device| {
            while let Some(chain) = device.take() {
                let writable = chain.descriptors.iter().filter(|one| one.device_writes);
                let written = writable.map(|one| one.length).sum();
                device.complete(chain.id.into(), written);
            }
        })
    });
    assert_eq!(unwritten, PROTOCOL);
}

#[test]
fn one_failed_write_fails_the_batch_and_not_the_device() {
    let _alone = alone();
    let mut count = 0;
    let (driver, device) = open(completing(move |device, chain, written| {
        count += 1;
        set_status(&chain, u8::from(count == 3));
        device.complete(chain.id.into(), written);
    }));
    let runs = [0, 2, 4, 6, 8].map(|block| Run {
        block,
        data: &[1; 512],
    });
    assert_eq!(driver.write_runs(&runs), Err(BlockError::Io));
    assert_eq!(driver.write_runs(&runs), Ok(()));
    assert!(device.lock().unwrap().status.bits() != 0);
}

#[test]
fn a_configuration_that_never_stands_still_is_refused() {
    let _alone = alone();
    let mut device = Device::new(DISK);
    device.restless = true;
    assert_eq!(try_open(device, good()).err(), Some(OpenError::Unstable));
    assert_nothing_leaked();
}

#[test]
fn a_short_configuration_is_refused() {
    let _alone = alone();
    for size in 0..24 {
        let mut device = Device::new(DISK);
        device.config.truncate(size);
        let error = try_open(device, good()).err();
        assert_eq!(error, Some(OpenError::Configuration), "{size}");
    }
    assert_nothing_leaked();
}

#[test]
fn an_unusable_queue_is_refused() {
    let _alone = alone();
    for size in [0, 1, 3, 63] {
        let mut device = Device::new(DISK);
        device.queue_size = size;
        assert_eq!(
            try_open(device, good()).err(),
            Some(OpenError::Queue),
            "{size}"
        );
    }
    // More than is asked for, even if no power of two, serves.
    for size in [64, 65, 65535, 65536, u32::MAX] {
        let mut device = Device::new(DISK);
        device.queue_size = size;
        let (driver, _) = try_open(device, good()).expect("there are descriptors enough");
        driver.write(0, &[1; 512]).unwrap();
        driver.read(0, &mut [0; 512]).unwrap();
    }
    assert_nothing_leaked();
}

#[test]
fn a_senseless_block_size_is_refused() {
    let _alone = alone();
    for size in [0, 1, 511, 513, 1000, 1 << 17, 1 << 31, u32::MAX] {
        let mut device = Device::new(DISK);
        device.set_block_size(size);
        let error = try_open(device, good()).err();
        assert_eq!(error, Some(OpenError::BlockSize(size)));
    }
    for size in [512, 4096, 65536] {
        let mut device = Device::new(DISK);
        device.set_block_size(size);
        let (driver, _) = try_open(device, good()).expect("makes sense");
        let block = vec![9; size as usize];
        driver.write(1, &block).unwrap();
        let mut back = vec![0; size as usize];
        driver.read(1, &mut back).unwrap();
        assert!(back == block);
        assert_eq!(driver.read(0, &mut [0; 256]), Err(BlockError::OutOfRange));
    }
    assert_nothing_leaked();
}

#[test]
fn the_largest_capacity_overflows_nothing() {
    let _alone = alone();
    for sectors in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 55] {
        for block_size in [512, 4096, 65536] {
            let mut device = Device::new(DISK);
            device.set_capacity(sectors);
            device.set_block_size(block_size);
            let fail: Behaviour = Box::new(|device| {
                while let Some(chain) = device.take() {
                    set_status(&chain, 1);
                    device.complete(chain.id.into(), 1);
                }
            });
            let (driver, _) = try_open(device, fail).expect("a large device");
            let Geometry { block_count, .. } = driver.geometry();
            assert_eq!(block_count, sectors / (u64::from(block_size) / 512));
            assert!(driver.geometry().bytes() >= 1 << 55);
            let mut one = vec![0; block_size as usize];
            let last = block_count - 1;
            assert_eq!(driver.read(last, &mut one), Err(BlockError::Io));
            assert_eq!(driver.write(last, &one), Err(BlockError::Io));
            assert_eq!(
                driver.read(block_count, &mut one),
                Err(BlockError::OutOfRange)
            );
            assert_eq!(driver.write(u64::MAX, &one), Err(BlockError::OutOfRange));
            one.resize(one.len() * 2, 0);
            assert_eq!(driver.write(last, &one), Err(BlockError::OutOfRange));
        }
    }
    let mut device = Device::new(DISK);
    device.set_capacity(0);
    let (driver, _) = try_open(device, good()).expect("an empty device");
    assert_eq!(driver.read(0, &mut [0; 512]), Err(BlockError::OutOfRange));
}

#[test]
fn old_devices_and_such_that_refuse_the_features_are_refused() {
    let _alone = alone();
    for features in [0, FLUSH, !VERSION_1] {
        let mut device = Device::new(DISK);
        device.features = features;
        assert_eq!(try_open(device, good()).err(), Some(OpenError::Legacy));
    }
    let mut device = Device::new(DISK);
    device.refuses_features = true;
    assert_eq!(try_open(device, good()).err(), Some(OpenError::Features));
    // Everything offered at once: only what is understood is taken.
    let mut device = Device::new(DISK);
    device.features = u64::MAX;
    let (driver, device) = try_open(device, good()).expect("offers what is needed");
    assert_eq!(device.lock().unwrap().features, 0x3_0000_0260);
    assert_eq!(driver.write(0, &[0; 512]), Err(BlockError::ReadOnly));
    drop(driver);
    assert_nothing_leaked();
}

#[test]
fn a_device_that_is_not_told_is_not_waited_for_for_ever() {
    let _alone = alone();
    // It asks not to be notified (used ring flags, 2.7.10) and then does nothing.
    let (driver, device) = open(good());
    device.lock().unwrap().suppress_notifications();
    assert_eq!(driver.flush(), Err(BlockError::TimedOut));
}

#[test]
fn without_shared_memory_there_is_an_error() {
    let _alone = alone();
    let (driver, _) = open(good());
    let mut hoard: Vec<_> = std::iter::from_fn(|| SharedBuffer::allocate(1).ok()).collect();
    // A page of headers and two of rings are what a device needs.
    for free in 0..3 {
        assert_eq!(driver.write(0, &[0; 512]), Err(BlockError::NoMemory));
        let error = try_open(Device::new(DISK), good()).err();
        assert_eq!(error, Some(OpenError::NoMemory), "{free} pages free");
        hoard.pop();
    }
    assert!(try_open(Device::new(DISK), good()).is_ok());
    drop(hoard);
    assert_eq!(driver.write(0, &[0; 512]), Ok(()));
}

/// A device that answers with whatever a generator says, for as long as it is asked.
fn erratic(seed: u64) -> Behaviour {
    let mut generator = Random::new(seed);
    let mut random = move || generator.next() as u32;
    Box::new(move |device| {
        let chains: Vec<_> = std::iter::from_fn(|| device.take()).collect();
        for chain in chains {
            let served = device.serve(&chain);
            // Some cheat at every other request, some hardly ever.
            match u64::from(random()) % (16 + seed % 500) {
                0 => device.complete(random(), served),
                1 => device.complete(chain.id.into(), random()),
                2 => device.complete(random() % 64, random() % 5000),
                3 => set_status(&chain, random() as u8),
                4 => device.scribble_used(|| random() as u8),
                5 => device.move_used(random() as u16),
                6 => device.complete(u32::from(chain.id) | 0xffff_0000, served),
                7 => {}
                8 => {
                    set_status(&chain, (random() % 4) as u8);
                    device.complete(chain.id.into(), served);
                }
                _ => device.complete(chain.id.into(), served),
            }
        }
    })
}

#[test]
fn an_erratic_device_never_gets_the_better_of_the_driver() {
    let _alone = alone();
    let rounds = amount(300, 20_000);
    let mut outcomes = [0u64; 2];
    for seed in 0..rounds {
        let (driver, _) = open(erratic(seed));
        let mut buffer = vec![0; 8192];
        for call in 0..12 {
            let before = CLOCK.looks();
            let answer = match call % 3 {
                0 => driver.read(call, &mut buffer),
                1 => driver.write_runs(&[0, 20, 40, 60, 80, 100].map(|block| Run {
                    block,
                    data: &[3; 1536],
                })),
                _ => driver.flush(),
            };
            outcomes[usize::from(answer.is_err())] += 1;
            assert!(CLOCK.looks() - before < 8 * PATIENCE);
        }
        drop(driver);
        assert_nothing_leaked();
    }
    record(&[
        ("device.erratic_rounds", rounds),
        ("device.erratic_answers", outcomes[0]),
        ("device.erratic_errors", outcomes[1]),
    ]);
    assert!(outcomes.iter().all(|count| *count > 0));
}

#[cfg(feature = "cocoonfs")]
mod volume;
