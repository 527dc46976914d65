//! A recording of what was written to a device, played up to every point at which the
//! power may go, with everything that the device may then hold.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use svsm::block::BlockDevice;

use crate::device::{Event, Overlay, Recorder, SECTOR};
use crate::report::Random;

/// Writes since a flush of which every subset is tried.
pub const ALL_SUBSETS: usize = 10;

/// Who uses the device, and what a boot of it shows.
pub trait Subject {
    /// What a boot shows.
    type State;

    /// Boots on `device`, looks, and says which of `allowed` is there.
    fn boot(
        &self,
        device: &Arc<dyn BlockDevice>,
        allowed: &[&Self::State],
    ) -> Result<usize, String>;

    /// Goes on working on `device`, which shows `seen`.
    fn go_on(
        &self,
        device: &Arc<dyn BlockDevice>,
        seen: &Self::State,
        random: &mut Random,
    ) -> Result<(), String>;
}

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

/// What came of it.
#[derive(Default)]
pub struct Tally {
    pub points: u64,
    pub torn_sectors: u64,
    pub second_cuts: u64,
    pub transactions_after: u64,
    pub violations: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.points += other.points;
        self.torn_sectors += other.torn_sectors;
        self.second_cuts += other.second_cuts;
        self.transactions_after += other.transactions_after;
        self.violations.extend(other.violations);
    }
}

/// How much is tried of each stretch between two flushes.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Every how manieth prefix.
    pub prefix_step: usize,
    /// Subsets where there are too many for all of them.
    pub subsets: usize,
    /// Subsets with torn sectors among them.
    pub torn_subsets: usize,
    /// Every how manieth point a second cut is tried at.
    pub second_step: usize,
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

/// One recording on its way through.
pub struct Replay<'a, S: Subject> {
    pub subject: &'a S,
    /// What was on the device at the beginning.
    pub image: Arc<[u8]>,
    /// What it showed then, and after each transaction.
    pub states: &'a [S::State],
    pub effort: Effort,
    pub random: Random,
    pub tally: Tally,
}

impl<'a, S: Subject> Replay<'a, S> {
    /// Cuts the power at every point of `events`, which began on the image.
    pub fn run(&mut self, events: Vec<Event>) {
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

    /// Boots; which of `allowed` is there.
    fn boot<'s>(
        &self,
        device: &Arc<dyn BlockDevice>,
        allowed: &[&'s S::State],
    ) -> Result<&'s S::State, String> {
        let boot = AssertUnwindSafe(|| self.subject.boot(device, allowed));
        let found = catch_unwind(boot).map_err(|_| "panic")??;
        Ok(allowed[found])
    }

    /// Cuts the power with `pending` not flushed.
    fn stretch(&mut self, pending: &[Pending], started: usize, acknowledged: usize) {
        let states: &'a [S::State] = self.states;
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
            match self.boot(&device, &allowed) {
                Err(violation) => self
                    .tally
                    .violations
                    .push(format!("{violation}: {}", what())),
                Ok(seen) => {
                    if let Some(image) = image {
                        self.second_cut(&image, seen);
                        self.go_on(&device, seen);
                    }
                }
            }
        }
    }

    /// Boots on `image`, which shows `seen`, cuts the power at every point of that,
    /// and boots again: what was decided once stays decided.
    fn second_cut(&mut self, image: &Arc<[u8]>, seen: &S::State) {
        let device = Arc::new(Recorder::new(Overlay::new(image)));
        let as_device: Arc<dyn BlockDevice> = device.clone();
        if let Err(violation) = self.boot(&as_device, &[seen]) {
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
            subject: self.subject,
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

    /// Work goes on after the cut.
    fn go_on(&mut self, device: &Arc<dyn BlockDevice>, seen: &S::State) {
        self.tally.transactions_after += 1;
        if let Err(violation) = self.subject.go_on(device, seen, &mut self.random) {
            self.tally
                .violations
                .push(format!("transaction after the cut: {violation}"));
        }
    }
}

/// # Panics
/// When anything was wrong.
pub fn assert_none_violated(tally: &Tally) {
    for violation in tally.violations.iter().take(10) {
        println!("{violation}");
    }
    assert!(
        tally.violations.is_empty(),
        "{} violations",
        tally.violations.len()
    );
}
