//! The power goes at every point of what the TPM writes to the device, through the file
//! system and all: what it answered is there again, counters never repeat a value, failed
//! authorizations stay counted, and it is never made anew.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use svsm::block::BlockDevice;
use svsm::persistence::Volume;
use svsm::services::{Tpm, vtpm::power_on};
use svsm::time::Clock;
use vtpm::client::{Client, Failed, LOCKOUT_COUNTER, Transport};

use crate::device::{Event, Overlay, Recorder};
use crate::power_cut::formatted_image;
use crate::replay::{Effort, Replay, Subject, Tally, assert_none_violated};
use crate::report::{Random, amount, record};
use crate::state::open;
use crate::support::OsEntropy;

const IMAGE: usize = 256 << 10;

/// Attributes: the owner and the password read and write.
const OPEN: u32 = 0x0006_0006;
/// The same, a counter.
const COUNTING: u32 = OPEN | 0x10;
/// A counter that is kept in memory and written now and then.
const ORDERLY: u32 = COUNTING | 1 << 26;
/// The password reads and writes; guesses count.
const GUARDED: u32 = 0x0004_0004;

const DATA: u32 = 0x0150_0000;
const COUNTER: u32 = 0x0150_0001;
const ORDERLY_COUNTER: u32 = 0x0150_0002;
const SECRET: u32 = 0x0150_0003;

/// Size of the data, more than a block of the volume.
const SIZE: u16 = 1000;

const TPM_RC_AUTH_FAIL: u32 = 0x98E;
const TPM_RC_NV_UNINITIALIZED: u32 = 0x14A;
/// TPM_RC_HANDLE for the second handle.
const NO_SUCH_INDEX: u32 = 0x28B;

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

struct Direct(Box<dyn Tpm>);

impl Transport for Direct {
    type Error = Infallible;

    fn execute(&mut self, command: &[u8]) -> Result<Vec<u8>, Infallible> {
        let mut response = Vec::new();
        self.0.execute(0, command, &mut response);
        Ok(response)
    }
}

type Used = Client<Direct>;
type Outcome<T> = Result<T, Failed<Infallible>>;

/// What a client sees of a TPM.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The endorsement key; none while it may still be made.
    key: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
    counter: Option<u64>,
    orderly: Option<u64>,
    failures: u32,
}

impl Seen {
    fn of(tpm: &mut Used) -> Outcome<Self> {
        Ok(Self {
            key: Some(tpm.0.0.ek_public().to_vec()),
            data: there(tpm.read(DATA, SIZE))?,
            counter: there(tpm.counter(COUNTER))?,
            orderly: there(tpm.counter(ORDERLY_COUNTER))?,
            failures: tpm.property(LOCKOUT_COUNTER)?,
        })
    }

    /// Whether this is what a boot may show where `self` was before.
    fn becomes(&self, seen: &Self) -> bool {
        let Some(key) = &self.key else {
            return seen.data.is_none();
        };
        // An orderly counter goes up to where it cannot have been; one that was read from
        // must be there. A start without a shutdown may count one failure more.
        seen.key.as_ref() == Some(key)
            && seen.data == self.data
            && seen.counter == self.counter
            && seen.orderly.is_some() == self.orderly.is_some()
            && seen.orderly >= self.orderly
            && (self.failures..=self.failures + 1).contains(&seen.failures)
    }
}

/// What an index holds, where it is defined and written.
fn there<T>(read: Outcome<T>) -> Outcome<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Failed::Code(TPM_RC_NV_UNINITIALIZED | NO_SUCH_INDEX)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn on(device: &Arc<dyn BlockDevice>) -> Result<Used, String> {
    let volume: Arc<dyn Volume> = Arc::new(open(device).ok_or("the volume does not open")?);
    let tpm = power_on(Some(volume), &OsEntropy, &Standing).map_err(|error| error.to_string())?;
    Ok(Client(Direct(tpm)))
}

fn started(device: &Arc<dyn BlockDevice>) -> Result<Used, String> {
    let mut tpm = on(device)?;
    tpm.startup().map_err(|error| format!("Startup: {error}"))?;
    Ok(tpm)
}

/// A TPM on a volume.
struct TpmOnVolume;

impl Subject for TpmOnVolume {
    type State = Seen;

    fn boot(&self, device: &Arc<dyn BlockDevice>, allowed: &[&Seen]) -> Result<usize, String> {
        let seen = Seen::of(&mut started(device)?).map_err(|error| error.to_string())?;
        let found = allowed.iter().position(|state| state.becomes(&seen));
        found.ok_or_else(|| format!("neither of {allowed:?}, but {seen:?}"))
    }

    fn go_on(
        &self,
        device: &Arc<dyn BlockDevice>,
        _seen: &Seen,
        random: &mut Random,
    ) -> Result<(), String> {
        let mut tpm = started(device)?;
        let before = Seen::of(&mut tpm).map_err(|error| error.to_string())?;
        let mut work = || -> Outcome<()> {
            if before.data.is_some() {
                tpm.write(DATA, &[random.next() as u8; SIZE as usize])?;
            }
            for (index, last) in [(COUNTER, before.counter), (ORDERLY_COUNTER, before.orderly)] {
                if last.is_some() {
                    tpm.increment(index)?;
                    assert!(Some(tpm.counter(index)?) > last, "a value was repeated");
                }
            }
            Ok(())
        };
        work().map_err(|error| error.to_string())?;
        let after = Seen::of(&mut tpm).map_err(|error| error.to_string())?;
        drop(tpm);
        self.boot(device, &[&after]).map(drop)
    }
}

/// Does one thing.
type Step = fn(&mut Used) -> Outcome<()>;

fn guess(tpm: &mut Used) -> Outcome<()> {
    match tpm.read_as(SECRET, b"wrong", SECRET, 8) {
        Err(Failed::Code(TPM_RC_AUTH_FAIL)) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => panic!("read with a wrong password"),
    }
}

/// What a client does in one boot, one command each.
const STEPS: [Step; 21] = [
    |tpm| tpm.startup(),
    |tpm| tpm.protection(1000, 1000),
    |tpm| tpm.define(DATA, OPEN, SIZE, b""),
    |tpm| tpm.define(COUNTER, COUNTING, 8, b""),
    |tpm| tpm.define(ORDERLY_COUNTER, ORDERLY, 8, b""),
    |tpm| tpm.define(SECRET, GUARDED, 8, b"right"),
    |tpm| tpm.write(DATA, &[1; SIZE as usize]),
    |tpm| tpm.increment(COUNTER),
    |tpm| tpm.increment(ORDERLY_COUNTER),
    guess,
    |tpm| tpm.write(DATA, &[2; SIZE as usize]),
    |tpm| tpm.increment(COUNTER),
    |tpm| tpm.increment(ORDERLY_COUNTER),
    guess,
    |tpm| tpm.shutdown(),
    // Takes the shutdown back.
    |tpm| tpm.increment(ORDERLY_COUNTER),
    |tpm| tpm.increment(COUNTER),
    guess,
    |tpm| tpm.write(DATA, &[3; SIZE as usize]),
    |tpm| tpm.clear(),
    |tpm| tpm.define(DATA, OPEN, SIZE, b""),
];

/// An image with a TPM that was never started.
fn manufactured() -> Arc<[u8]> {
    let device = Arc::new(Overlay::new(&formatted_image(IMAGE)));
    let as_device: Arc<dyn BlockDevice> = device.clone();
    drop(on(&as_device).expect("is made"));
    device.flatten()
}

/// The recording of [`STEPS`], and what was seen before and after each.
fn recorded(image: &Arc<[u8]>) -> (Vec<Event>, Vec<Seen>) {
    let device = Arc::new(Recorder::new(Overlay::new(image)));
    let as_device: Arc<dyn BlockDevice> = device.clone();
    let mut tpm = on(&as_device).expect("starts");
    let mut states = vec![Seen {
        key: Some(tpm.0.0.ek_public().to_vec()),
        ..Seen::default()
    }];
    for step in STEPS {
        device.mark(Event::Started);
        step(&mut tpm).expect("the device is in order");
        device.mark(Event::Acknowledged);
        states.push(Seen::of(&mut tpm).expect("can be looked at"));
    }
    (device.take(), states)
}

fn steps(effort: Effort) -> Tally {
    let image = manufactured();
    let (events, states) = recorded(&image);
    let mut replay = Replay {
        subject: &TpmOnVolume,
        image,
        states: &states,
        effort,
        random: Random::new(8),
        tally: Tally::default(),
    };
    replay.run(events);
    replay.tally
}

/// Manufacture: until it has ended, a boot may do it again; then never.
fn manufacture(effort: Effort) -> Tally {
    let image = formatted_image(IMAGE);
    let device = Arc::new(Recorder::new(Overlay::new(&image)));
    let as_device: Arc<dyn BlockDevice> = device.clone();
    device.mark(Event::Started);
    let made = on(&as_device).expect("is made");
    device.mark(Event::Acknowledged);
    let states = [
        Seen::default(),
        Seen {
            key: Some(made.0.0.ek_public().to_vec()),
            ..Seen::default()
        },
    ];
    let mut replay = Replay {
        subject: &TpmOnVolume,
        image,
        states: &states,
        effort,
        random: Random::new(9),
        tally: Tally::default(),
    };
    replay.run(device.take());
    replay.tally
}

#[test]
fn a_power_cut_takes_nothing_that_the_tpm_answered() {
    let mut tally = steps(Effort {
        prefix_step: amount(25, 1),
        subsets: amount(2, 256),
        torn_subsets: amount(1, 128),
        second_step: amount(29, 97),
    });
    assert!(tally.second_cuts > 0 && tally.transactions_after > 0);
    tally.add(manufacture(Effort {
        prefix_step: amount(50, 2),
        subsets: amount(1, 16),
        torn_subsets: amount(1, 16),
        second_step: usize::MAX,
    }));
    record(&[
        ("tpm.powercut.points", tally.points),
        ("tpm.powercut.lost", tally.violations.len() as u64),
        ("tpm.powercut.torn_sectors", tally.torn_sectors),
        ("tpm.powercut.second_cuts", tally.second_cuts),
        ("tpm.powercut.transactions_after", tally.transactions_after),
    ]);
    assert_none_violated(&tally);
    assert!(tally.points >= amount(300, 15_000), "{}", tally.points);
}

#[test]
fn an_answer_before_its_flush_is_noticed_by_this_test() {
    // The check can fail: a TPM that answers before anything is durable loses answers.
    let image = manufactured();
    let (mut events, states) = recorded(&image);
    events.retain(|event| !matches!(event, Event::Flush));
    let mut replay = Replay {
        subject: &TpmOnVolume,
        image,
        states: &states,
        effort: Effort {
            prefix_step: 400,
            subsets: 1,
            torn_subsets: 0,
            second_step: usize::MAX,
        },
        random: Random::new(10),
        tally: Tally::default(),
    };
    replay.run(events);
    assert!(!replay.tally.violations.is_empty());
}
