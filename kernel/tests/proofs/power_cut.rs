//! The power goes: at every point of the event stream of a device, with every part of
//! what was not flushed, with torn sectors, and again while the volume recovers.
//!
//! The device is the worst that its contract allows. Of the sectors written since the
//! last flush any subset may have reached the disk, in any order, and any of them may
//! be torn: one half new, or garbage. What was flushed is there. The volume is then
//! opened as at the next boot, and every file is read. It must show the state before
//! the transaction under way or the one after it, and the one after it from the moment
//! on at which the transaction was acknowledged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use svsm::block::BlockDevice;

use crate::device::{Event, Overlay, Recorder, SECTOR};
use crate::report::{Random, amount, record};
use crate::state::{FILES, State, go, next_state, open, read_all};
use crate::support;

/// Size of the images, the smallest that holds two states of all files and a journal.
const IMAGE: usize = 512 << 10;

/// An image that nothing but formatting is done to.
const EMPTY_IMAGE: usize = 128 << 10;

/// Writes since a flush of which every subset is tried.
const ALL_SUBSETS: usize = 10;

/// What became of a sector whose write was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Old,
    New,
    FirstHalfNew,
    SecondHalfNew,
    Garbage,
}

const TORN: [Fate; 3] = [Fate::FirstHalfNew, Fate::SecondHalfNew, Fate::Garbage];

/// A sector that was written.
struct Pending {
    sector: usize,
    data: Vec<u8>,
}

#[derive(Default)]
struct Tally {
    points: u64,
    torn_sectors: u64,
    second_cuts: u64,
    transactions_after: u64,
    violations: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.points += other.points;
        self.torn_sectors += other.torn_sectors;
        self.second_cuts += other.second_cuts;
        self.transactions_after += other.transactions_after;
        self.violations.extend(other.violations);
    }
}

/// How much is tried of each stretch between two flushes.
#[derive(Clone, Copy)]
struct Effort {
    /// Every how manieth prefix.
    prefix_step: usize,
    /// Subsets where there are too many for all of them.
    subsets: usize,
    /// Subsets with torn sectors among them.
    torn_subsets: usize,
    /// Every how manieth point a second cut is tried at.
    second_step: usize,
}

/// What a device may hold after a cut: `pending` over `image`, each with its fate.
fn cut(image: &Arc<[u8]>, pending: &[Pending], fates: &[Fate], random: &mut Random) -> Overlay {
    let device = Overlay::new(image);
    for (write, fate) in pending.iter().zip(fates) {
        let half = SECTOR / 2;
        device.change(write.sector, |sector| match fate {
            Fate::Old => {}
            Fate::New => sector.copy_from_slice(&write.data),
            Fate::FirstHalfNew => sector[..half].copy_from_slice(&write.data[..half]),
            Fate::SecondHalfNew => sector[half..].copy_from_slice(&write.data[half..]),
            Fate::Garbage => sector.fill_with(|| random.next() as u8),
        });
    }
    device
}

/// Boots on `device` and checks that one of `allowed` is there. Returns it.
fn boot<'a>(device: &Arc<dyn BlockDevice>, allowed: &[&'a State]) -> Result<&'a State, String> {
    let seen = catch_unwind(AssertUnwindSafe(|| {
        let volume = open(device).ok_or("the volume does not open")?;
        read_all(&volume).map_err(|error| error.to_string())
    }))
    .map_err(|_| "panic")??;
    let found = allowed.iter().find(|state| ***state == seen);
    Ok(found.ok_or("neither the old nor the new state")?)
}

/// The fates that are tried of `count` pending writes.
fn all_fates(count: usize, effort: Effort, random: &mut Random) -> Vec<Vec<Fate>> {
    let mut all = Vec::new();
    let kept = |kept: bool| if kept { Fate::New } else { Fate::Old };
    for length in (0..=count).step_by(effort.prefix_step) {
        let prefix: Vec<_> = (0..count).map(|n| kept(n < length)).collect();
        if length < count {
            for torn in TORN {
                let mut fates = prefix.clone();
                fates[length] = torn;
                all.push(fates);
            }
        }
        all.push(prefix);
    }
    if count <= ALL_SUBSETS && 1 << count <= effort.subsets {
        for subset in 0..1usize << count {
            let fates: Vec<_> = (0..count).map(|n| kept(subset >> n & 1 == 1)).collect();
            // Prefixes are there already.
            if fates.windows(2).any(|pair| pair == [Fate::Old, Fate::New]) {
                all.push(fates);
            }
        }
    } else {
        for _ in 0..effort.subsets {
            // From nearly nothing to nearly everything.
            let share = random.below(101);
            all.push(
                (0..count)
                    .map(|_| kept(random.below(100) < share))
                    .collect(),
            );
        }
    }
    for _ in 0..if count == 0 { 0 } else { effort.torn_subsets } {
        let share = random.below(101);
        let mut fates: Vec<_> = (0..count)
            .map(|_| kept(random.below(100) < share))
            .collect();
        for _ in 0..1 + random.below(4) {
            fates[random.below(count)] = TORN[random.below(3)];
        }
        all.push(fates);
    }
    // Nothing is counted twice.
    all.sort_unstable();
    all.dedup();
    all
}

struct Replay<'a> {
    image: Arc<[u8]>,
    states: &'a [State],
    effort: Effort,
    random: Random,
    tally: Tally,
}

impl Replay<'_> {
    /// Cuts the power at every point of `events`, which began on the image.
    fn run(&mut self, events: Vec<Event>) {
        let (mut started, mut acknowledged) = (0, 0);
        let mut pending: Vec<Pending> = Vec::new();
        for event in events {
            match event {
                Event::Write { sector, data } => pending.push(Pending { sector, data }),
                Event::Started => started += 1,
                // What was allowed up to here is different from what is from here on.
                Event::Acknowledged => {
                    self.stretch(&pending, started, acknowledged);
                    acknowledged += 1;
                }
                Event::Flush => {
                    self.stretch(&pending, started, acknowledged);
                    let fates = vec![Fate::New; pending.len()];
                    self.image = cut(&self.image, &pending, &fates, &mut self.random).flatten();
                    pending.clear();
                }
            }
        }
        self.stretch(&pending, started, acknowledged);
        assert_eq!(acknowledged + 1, self.states.len());
    }

    /// Cuts the power with `pending` not flushed.
    fn stretch(&mut self, pending: &[Pending], started: usize, acknowledged: usize) {
        let states = self.states;
        let allowed: Vec<_> = states[acknowledged..=started].iter().collect();
        for fates in all_fates(pending.len(), self.effort, &mut self.random) {
            let is_torn = fates.iter().any(|fate| TORN.contains(fate));
            self.tally.points += 1;
            self.tally.torn_sectors += u64::from(is_torn);
            let device = cut(&self.image, pending, &fates, &mut self.random);
            let what = || format!("{acknowledged} of {started} acknowledged, {fates:?}");
            let is_second = self
                .tally
                .points
                .is_multiple_of(self.effort.second_step as u64);
            let image = is_second.then(|| device.flatten());
            let device: Arc<dyn BlockDevice> = Arc::new(device);
            match boot(&device, &allowed) {
                Err(violation) => self
                    .tally
                    .violations
                    .push(format!("{violation}: {}", what())),
                Ok(seen) => {
                    if let Some(image) = image {
                        self.second_cut(&image, seen);
                        self.write_after(&device, seen);
                    }
                }
            }
        }
    }

    /// Boots on `image`, which shows `seen`, cuts the power at every point of that,
    /// and boots again: what was decided once stays decided.
    fn second_cut(&mut self, image: &Arc<[u8]>, seen: &State) {
        let device = Arc::new(Recorder::new(Overlay::new(image)));
        let as_device: Arc<dyn BlockDevice> = device.clone();
        if let Err(violation) = boot(&as_device, &[seen]) {
            self.tally
                .violations
                .push(format!("second boot: {violation}"));
        }
        let mut events = device.take();
        events.push(Event::Flush);
        if !events
            .iter()
            .any(|event| matches!(event, Event::Write { .. }))
        {
            return;
        }
        let mut again = Replay {
            image: image.clone(),
            states: std::slice::from_ref(seen),
            effort: Effort {
                prefix_step: self.effort.prefix_step,
                subsets: self.effort.subsets / 8,
                torn_subsets: self.effort.torn_subsets / 8,
                second_step: usize::MAX,
            },
            random: Random::new(self.random.next()),
            tally: Tally::default(),
        };
        again.run(events);
        again.tally.second_cuts = again.tally.points;
        self.tally.add(again.tally);
    }

    /// The volume goes on working after the cut.
    fn write_after(&mut self, device: &Arc<dyn BlockDevice>, seen: &State) {
        let next = next_state(seen, 1, &mut self.random);
        let result = open(device).ok_or_else(|| "does not open".to_owned());
        let result = result.and_then(|volume| {
            go(&volume, seen, &next).map_err(|error| error.to_string())?;
            drop(volume);
            boot(device, &[&next]).map(|_| ())
        });
        self.tally.transactions_after += 1;
        if let Err(violation) = result {
            self.tally
                .violations
                .push(format!("transaction after the cut: {violation}"));
        }
    }
}

fn assert_none_violated(tally: &Tally) {
    for violation in tally.violations.iter().take(10) {
        println!("{violation}");
    }
    assert!(
        tally.violations.is_empty(),
        "{} violations",
        tally.violations.len()
    );
}

fn empty_image(bytes: usize) -> Arc<[u8]> {
    let layout = support::project_layout();
    let header = support::creation_header(bytes, SECTOR, bytes as u64, &layout);
    header.snapshot().into()
}

/// Transactions over 1 to 8 files each, `rounds` times, on one mount.
fn transactions(rounds: usize, effort: Effort) -> Tally {
    let device = Overlay::new(&empty_image(IMAGE));
    let device: Arc<dyn BlockDevice> = Arc::new(device);
    drop(open(&device).expect("formats"));
    let mut image = vec![0; IMAGE];
    device.read(0, &mut image).unwrap();
    let image: Arc<[u8]> = image.into();

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
    let image = empty_image(IMAGE);
    let device: Arc<dyn BlockDevice> = Arc::new(Overlay::new(&image));
    drop(open(&device).expect("formats"));
    let mut bytes = vec![0; IMAGE];
    device.read(0, &mut bytes).unwrap();
    let image: Arc<[u8]> = bytes.into();
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
