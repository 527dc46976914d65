//! Every allocation of every operation on a volume fails, one after the other: alone,
//! and with all that follow it.
//!
//! An operation then fails with an error or succeeds all the same; it never panics and
//! never aborts. What was on the volume is there, and the next operation works. An
//! abort takes the process with it, so the operations run in child processes, which
//! say what they try before they do.
#![cfg(feature = "cocoonfs")]

mod allocator;
#[path = "../proofs/report.rs"]
#[allow(dead_code, reason = "shared with the other proofs")]
mod report;
#[path = "../proofs/state.rs"]
#[allow(dead_code, reason = "shared with the other proofs")]
mod state;
#[path = "../persistence/support.rs"]
#[allow(dead_code, reason = "shared with the scenario tests")]
mod support;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use allocator::{Fault, Faulty, with_fault};
use report::{amount, record};
use state::{State, file, go, open, read_all};
use support::pattern;
use svsm::block::BlockDevice;
use svsm::block::memory::MemoryDevice;
use svsm::persistence::{CocoonVolume, Namespace, Volume, VolumeError};

#[global_allocator]
static ALLOCATOR: Faulty = Faulty;

const IMAGE: usize = 512 << 10;

/// What a child is told: the operation, the kind of fault, the first allocation.
const CASE: &str = "HEAP_EXHAUSTION_CASE";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Format,
    Open,
    Read,
    List,
    Transaction,
    /// One that does not look whether it gets memory.
    Careless,
}

const OPERATIONS: [(&str, Operation); 6] = [
    ("format", Operation::Format),
    ("open", Operation::Open),
    ("read", Operation::Read),
    ("list", Operation::List),
    ("transaction", Operation::Transaction),
    ("careless", Operation::Careless),
];

fn old_state() -> State {
    let sizes = [0, 1, 64, 4096, 20480];
    let all = sizes.into_iter().enumerate();
    all.map(|(n, size)| (file(n), pattern(n as u64, size)))
        .collect()
}

fn new_state() -> State {
    let mut state = old_state();
    state.remove(&file(1));
    state.insert(file(2), pattern(12, 5000));
    state.insert(file(4), pattern(14, 20000));
    state.insert(file(6), pattern(16, 300));
    state
}

fn creation_header() -> Vec<u8> {
    let layout = support::project_layout();
    support::creation_header(IMAGE, 512, IMAGE as u64, &layout).snapshot()
}

fn prepared() -> Vec<u8> {
    let device = MemoryDevice::from_bytes(creation_header(), 512);
    let volume = open(&as_device(&device)).expect("formats");
    go(&volume, &State::new(), &old_state()).expect("there is space");
    read_all(&volume).expect("reads");
    device.snapshot()
}

fn as_device(device: &MemoryDevice) -> Arc<dyn BlockDevice> {
    Arc::new(device.clone())
}

/// What an operation came to.
enum Outcome {
    Done,
    NoMemory,
    Unknown,
}

fn outcome<T>(result: Result<T, VolumeError>) -> Result<Outcome, String> {
    match result {
        Ok(_) => Ok(Outcome::Done),
        Err(VolumeError::NoMemory) => Ok(Outcome::NoMemory),
        Err(VolumeError::OutcomeUnknown) => Ok(Outcome::Unknown),
        Err(error) => Err(format!("reports: {error}")),
    }
}

/// Runs `operation` on a copy of `image` under `fault`: what it came to, and whether
/// an allocation failed at all.
fn attempt(operation: Operation, image: &[u8], fault: Fault) -> Result<(Outcome, bool), String> {
    let device = MemoryDevice::from_bytes(image.to_vec(), 512);
    let as_device = as_device(&device);
    let mounted = || open(&as_device).expect("opens");
    let (old, new) = (old_state(), new_state());
    let (volume, (result, failed)): (Option<CocoonVolume>, _) = match operation {
        Operation::Format | Operation::Open => {
            let (volume, failed) = with_fault(fault, || open(&as_device));
            let outcome = if volume.is_some() {
                Outcome::Done
            } else {
                Outcome::NoMemory
            };
            (volume, (Ok(outcome), failed))
        }
        Operation::Read => {
            let volume = mounted();
            let (result, failed) = with_fault(fault, || volume.read(file(4)));
            if let Ok(data) = &result
                && **data != old[&file(4)]
            {
                return Err("wrong data".to_owned());
            }
            (Some(volume), (outcome(result), failed))
        }
        Operation::List => {
            let volume = mounted();
            let (result, failed) = with_fault(fault, || volume.list(Namespace::Vtpm));
            if let Ok(listed) = &result
                && *listed != [0, 2, 4]
            {
                return Err("wrong list".to_owned());
            }
            (Some(volume), (outcome(result), failed))
        }
        Operation::Transaction => {
            let volume = mounted();
            let (result, failed) = with_fault(fault, || go(&volume, &old, &new));
            (Some(volume), (outcome(result), failed))
        }
        Operation::Careless => {
            let (_, failed) = with_fault(fault, || std::hint::black_box(vec![1; 64]));
            (None, (Ok(Outcome::Done), failed))
        }
    };
    let result = result?;
    // What is there now, in memory, and after a reboot at this moment.
    let empty = State::new();
    let (expected, next) = match (operation, &result) {
        (Operation::Format, _) => (&empty, &new),
        (Operation::Transaction, Outcome::Done) => (&new, &old),
        _ => (&old, &new),
    };
    let rebooted: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::from_bytes(device.snapshot(), 512));
    let rebooted = open(&rebooted).ok_or("does not open after a reboot")?;
    let seen = read_all(&rebooted).map_err(|error| format!("after a reboot: {error}"))?;
    let is_expected = seen == *expected || (matches!(result, Outcome::Unknown) && seen == new);
    if !is_expected {
        return Err("another state after a reboot".to_owned());
    }
    let volume = match volume {
        Some(volume) => volume,
        None => open(&as_device).ok_or("does not open with memory")?,
    };
    let seen = read_all(&volume).map_err(|error| format!("afterwards: {error}"))?;
    if seen != *expected {
        return Err("another state afterwards".to_owned());
    }
    go(&volume, expected, next).map_err(|error| format!("next transaction: {error}"))?;
    if read_all(&volume).as_ref() != Ok(next) {
        return Err("another state after the next transaction".to_owned());
    }
    Ok((result, failed > 0))
}

/// The child: tries one allocation after the other until none is left to fail.
#[test]
#[ignore = "run by the other tests, as a process of its own"]
fn child() {
    let case = std::env::var(CASE).expect("run by the other tests");
    let mut parts = case.split(' ');
    let operation = parts.next().unwrap();
    let (_, operation) = *OPERATIONS
        .iter()
        .find(|(name, _)| *name == operation)
        .unwrap();
    let kind = parts.next().unwrap();
    let mut numbers = parts.map(|part| part.parse::<u64>().unwrap());
    let [first, step, last] = std::array::from_fn(|_| numbers.next().unwrap());
    // Whatever is made once and for all is made by this.
    let prepared = prepared();
    let image = match operation {
        Operation::Format => creation_header(),
        _ => prepared,
    };
    let mut findings = 0;
    if first == last {
        allocator::trace();
    }
    // A panic needs memory to be reported, and is a finding already.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        allocator::stop();
        report(info);
    }));
    // And who hangs is aborted, however slow the machine is otherwise.
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    std::thread::spawn(|| {
        loop {
            let before = ATTEMPTS.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(300));
            if ATTEMPTS.load(Ordering::Relaxed) == before {
                std::process::abort();
            }
        }
    });
    let mut output = std::io::stdout();
    let mut say = |line: std::fmt::Arguments<'_>| {
        writeln!(output, "\n@{line}")
            .and_then(|()| output.flush())
            .unwrap();
    };
    for n in (first..=last).step_by(step as usize) {
        say(format_args!("at {n}"));
        ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        let fault = match kind {
            "once" => Fault::Once(n),
            _ => Fault::From(n),
        };
        let result = catch_unwind(AssertUnwindSafe(|| attempt(operation, &image, fault)));
        match result.unwrap_or_else(|_| Err("panics".to_owned())) {
            Ok((_, false)) => return say(format_args!("end {n}")),
            Ok((Outcome::Done, true)) => say(format_args!("tolerated")),
            Ok((Outcome::NoMemory, true)) => say(format_args!("refused")),
            Ok((Outcome::Unknown, true)) => say(format_args!("unknown")),
            Err(finding) => {
                say(format_args!("finding {finding}"));
                findings += 1;
                if findings == 20 {
                    return say(format_args!("end {n}"));
                }
            }
        }
    }
}

#[derive(Default, Debug)]
struct Tally {
    tried: u64,
    refused: u64,
    tolerated: u64,
    unknown: u64,
    findings: Vec<String>,
    aborts: Vec<String>,
}

fn run_child(case: &str) -> std::process::Output {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CASE, case)
        // A report of an abort would need memory, and wait for it for ever.
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the test can be run again")
}

/// Where the process aborts when allocation `n` fails: the frames of the kernel and of
/// the crates it uses, innermost first.
fn place_of_abort(operation: &str, kind: &str, n: u64) -> String {
    let output = run_child(&format!("{operation} {kind} {n} 1 {n}"));
    let trace = String::from_utf8_lossy(&output.stderr);
    let frames = trace.lines().filter_map(|line| {
        let (number, name) = line.trim().split_once(": ")?;
        number.parse::<u32>().ok()?;
        (name.contains("cocoon_tpm") || name.contains("svsm::")).then(|| name.to_owned())
    });
    frames.take(4).collect::<Vec<_>>().join(" < ")
}

fn exhaust(operation: &str, kind: &str, step: u64) -> Tally {
    let mut tally = Tally::default();
    let mut first = 0;
    loop {
        let output = run_child(&format!("{operation} {kind} {first} {step} {}", u64::MAX));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut at = None;
        let mut ended = false;
        for line in text.lines().filter_map(|line| line.strip_prefix('@')) {
            match line.split_once(' ') {
                Some(("at", n)) => {
                    at = Some(n.parse::<u64>().unwrap());
                    tally.tried += 1;
                }
                Some(("finding", finding)) => {
                    tally
                        .findings
                        .push(format!("{operation} {kind} {}: {finding}", at.unwrap()));
                }
                Some(("end", _)) => ended = true,
                _ => match line {
                    "tolerated" => tally.tolerated += 1,
                    "refused" => tally.refused += 1,
                    "unknown" => tally.unknown += 1,
                    other => panic!("the child says {other:?}"),
                },
            }
        }
        if ended {
            assert!(output.status.success(), "{text}");
            // The last one met no allocation that could fail.
            tally.tried -= 1;
            return tally;
        }
        let n = at.unwrap_or_else(|| {
            panic!(
                "the child never began: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
        let place = place_of_abort(operation, kind, n);
        tally
            .aborts
            .push(format!("{operation} {kind} {n}: abort in {place}"));
        assert!(tally.aborts.len() < 200, "{:#?}", tally.aborts);
        first = n + step;
    }
}

fn prove(operation: &str) {
    let mut total = Tally::default();
    for kind in ["once", "from"] {
        let tally = exhaust(operation, kind, amount(7, 1));
        println!(
            "{operation} {kind}: {} tried, {} refused, {} tolerated, {} unknown",
            tally.tried, tally.refused, tally.tolerated, tally.unknown
        );
        assert!(tally.refused > 0);
        total.tried += tally.tried;
        total.findings.extend(tally.findings);
        total.aborts.extend(tally.aborts);
    }
    record(&[
        (&format!("heap.{operation}.failed_allocations"), total.tried),
        (
            &format!("heap.{operation}.aborts"),
            total.aborts.len() as u64,
        ),
    ]);
    for line in total.findings.iter().chain(&total.aborts) {
        println!("{line}");
    }
    assert!(total.findings.is_empty() && total.aborts.is_empty());
}

#[test]
fn formatting_without_memory_is_an_error() {
    prove("format");
}

#[test]
fn opening_without_memory_is_an_error() {
    prove("open");
}

#[test]
fn reading_without_memory_is_an_error() {
    prove("read");
}

#[test]
fn listing_without_memory_is_an_error() {
    prove("list");
}

#[test]
fn a_transaction_without_memory_is_an_error() {
    prove("transaction");
}

#[test]
fn an_abort_is_noticed() {
    // The check can fail.
    let tally = exhaust("careless", "once", 1);
    assert_eq!((tally.tried, tally.aborts.len()), (1, 1));
}
