//! The power goes: at every point of the event stream of a device, with every part of
//! what was not flushed, with torn sectors, and again while the volume recovers.
//!
//! The device is the worst that its contract allows. Of the sectors written since the
//! last flush any subset may have reached the disk, in any order, and any of them may
//! be torn: one half new, or garbage. What was flushed is there. The volume is then
//! opened as at the next boot, and every file is read. It must show the state before
//! the transaction under way or the one after it, and the one after it from the moment
//! on at which the transaction was acknowledged.

use std::sync::Arc;

use svsm::block::BlockDevice;

use crate::device::{Event, Overlay, Recorder, SECTOR};
use crate::replay::{ALL_SUBSETS, Effort, Replay, Subject, Tally, assert_none_violated};
use crate::report::{Random, amount, record};
use crate::state::{FILES, State, go, next_state, open, read_all};
use crate::support;

/// Size of the images, the smallest that holds two states of all files and a journal.
const IMAGE: usize = 512 << 10;

/// An image that nothing but formatting is done to.
const EMPTY_IMAGE: usize = 128 << 10;

/// The files of a volume.
struct Files;

impl Subject for Files {
    type State = State;

    fn boot(&self, device: &Arc<dyn BlockDevice>, allowed: &[&State]) -> Result<usize, String> {
        let volume = open(device).ok_or("the volume does not open")?;
        let seen = read_all(&volume).map_err(|error| error.to_string())?;
        let found = allowed.iter().position(|state| **state == seen);
        Ok(found.ok_or("neither the old nor the new state")?)
    }

    fn go_on(
        &self,
        device: &Arc<dyn BlockDevice>,
        seen: &State,
        random: &mut Random,
    ) -> Result<(), String> {
        let next = next_state(seen, 1, random);
        let volume = open(device).ok_or("does not open")?;
        go(&volume, seen, &next).map_err(|error| error.to_string())?;
        drop(volume);
        self.boot(device, &[&next]).map(drop)
    }
}

/// An image with a creation header.
pub fn empty_image(bytes: usize) -> Arc<[u8]> {
    let layout = support::project_layout();
    let header = support::creation_header(bytes, SECTOR, bytes as u64, &layout);
    header.snapshot().into()
}

/// An image without files.
pub fn formatted_image(bytes: usize) -> Arc<[u8]> {
    let device = Arc::new(Overlay::new(&empty_image(bytes)));
    let as_device: Arc<dyn BlockDevice> = device.clone();
    drop(open(&as_device).expect("formats"));
    device.flatten()
}

/// Transactions over 1 to 8 files each, `rounds` times, on one mount.
fn transactions(rounds: usize, effort: Effort) -> Tally {
    let image = formatted_image(IMAGE);

    let device = Arc::new(Recorder::new(Overlay::new(&image)));
    let as_device: Arc<dyn BlockDevice> = device.clone();
    let volume = open(&as_device).expect("opens");
    let mut random = Random::new(3);
    let mut states = vec![State::new()];
    for count in (1..=FILES).cycle().take(rounds * FILES) {
        let from = states.last().unwrap();
        let mut to = next_state(from, count, &mut random);
        while to == *from {
            to = next_state(from, count, &mut random);
        }
        device.mark(Event::Started);
        go(&volume, from, &to).expect("the device is in order");
        device.mark(Event::Acknowledged);
        states.push(to);
    }
    // And everything away again, at once.
    let from = states.last().unwrap();
    device.mark(Event::Started);
    go(&volume, from, &State::new()).expect("the device is in order");
    device.mark(Event::Acknowledged);
    states.push(State::new());
    // Whatever is put off until the next operation.
    read_all(&volume).unwrap();

    let mut replay = Replay {
        subject: &Files,
        image,
        states: &states,
        effort,
        random: Random::new(4),
        tally: Tally::default(),
    };
    replay.run(device.take());
    replay.tally
}

/// Formatting from a creation header.
fn formatting(effort: Effort) -> Tally {
    let image = empty_image(EMPTY_IMAGE);
    let device = Arc::new(Recorder::new(Overlay::new(&image)));
    let as_device: Arc<dyn BlockDevice> = device.clone();
    drop(open(&as_device).expect("formats"));
    let states = [State::new()];
    let mut replay = Replay {
        subject: &Files,
        image,
        states: &states,
        effort,
        random: Random::new(5),
        tally: Tally::default(),
    };
    replay.run(device.take());
    replay.tally
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new_state() {
    let mut tally = transactions(
        amount(1, 3),
        Effort {
            prefix_step: amount(5, 1),
            subsets: amount(8, 1 << ALL_SUBSETS),
            torn_subsets: amount(4, 256),
            second_step: amount(23, 97),
        },
    );
    assert!(tally.second_cuts > 0 && tally.transactions_after > 0);
    tally.add(formatting(Effort {
        prefix_step: amount(50, 1),
        subsets: amount(4, 512),
        torn_subsets: amount(2, 256),
        second_step: amount(20, 101),
    }));
    // The second number is the one that must be 0: transactions seen half done, lost
    // after they were acknowledged, or that left a volume that does not open.
    record(&[
        ("powercut.points", tally.points),
        ("powercut.torn", tally.violations.len() as u64),
        ("powercut.torn_sectors", tally.torn_sectors),
        ("powercut.second_cuts", tally.second_cuts),
        ("powercut.transactions_after", tally.transactions_after),
    ]);
    assert_none_violated(&tally);
    assert!(tally.points >= amount(1_000, 100_000), "{}", tally.points);
}

#[test]
fn a_device_that_loses_flushed_writes_is_noticed_by_this_test() {
    // The check can fail: without flushes in the stream, subsets tear transactions.
    let image = formatted_image(IMAGE);
    let device = Arc::new(Recorder::new(Overlay::new(&image)));
    let as_device: Arc<dyn BlockDevice> = device.clone();
    let volume = open(&as_device).expect("opens");
    let states = [
        State::new(),
        next_state(&State::new(), FILES, &mut Random::new(6)),
    ];
    device.mark(Event::Started);
    go(&volume, &states[0], &states[1]).unwrap();
    read_all(&volume).unwrap();
    let mut events = device.take();
    events.retain(|event| !matches!(event, Event::Flush));
    events.push(Event::Acknowledged);
    let mut replay = Replay {
        subject: &Files,
        image,
        states: &states,
        effort: Effort {
            prefix_step: 50,
            subsets: 100,
            torn_subsets: 0,
            second_step: usize::MAX,
        },
        random: Random::new(7),
        tally: Tally::default(),
    };
    replay.run(events);
    assert!(!replay.tally.violations.is_empty());
}
