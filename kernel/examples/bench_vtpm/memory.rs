//! Stack and heap of the engine: what each command puts on the stack, in the whole call, and
//! what all of them together put on the heap.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};

use svsm::mm::stack;
use vtpm::crypto::Native;
use vtpm::storage::Memory;
use vtpm::{Tpm, table};

use crate::HEAP;
use crate::client::code;
use crate::environment::Fixed;

/// What is looked at: far more than there should be to see.
const ROOM: usize = 128 << 10;

/// Stack of the thread that runs the engine.
const STACK: usize = 512 << 10;

/// What does not succeed in the streams: this needs somebody to be physically present.
const NEVER: [&str; 1] = ["PP_Commands"];

fn fresh() -> Tpm {
    let environment = Box::new(Fixed::default());
    let (tpm, _) =
        Tpm::power_on(environment, Box::new(Memory::new()), &Native).expect("the TPM starts");
    tpm
}

struct Measured {
    /// Stack by command, the most that any use of it took.
    stack: BTreeMap<&'static str, usize>,
    /// The same of power on and off, with the making of a TPM.
    manufacture: usize,
    power_cycle: usize,
    succeeded: BTreeSet<u32>,
    commands: u64,
}

fn play(path: &str) -> std::io::Result<Measured> {
    let mut this = Measured {
        stack: BTreeMap::new(),
        manufacture: 0,
        power_cycle: 0,
        succeeded: BTreeSet::new(),
        commands: 0,
    };
    let mut tpm = None;
    let mut response = Vec::with_capacity(4096);
    for line in BufReader::new(std::fs::File::open(path)?).lines() {
        let line = line?;
        match (line.as_str(), &mut tpm) {
            ("new", _) => {
                // Not two at a time: that would show on the heap.
                drop(tpm.take());
                let (made, used) = stack::used(ROOM, fresh);
                this.manufacture = this.manufacture.max(used);
                tpm = Some(made);
            }
            ("cycle", Some(tpm)) => {
                let (result, used) = stack::used(ROOM, || tpm.power_cycle());
                result.map_err(std::io::Error::other)?;
                this.power_cycle = this.power_cycle.max(used);
            }
            (line, Some(tpm)) => {
                let (locality, command) = line.split_once(' ').unwrap_or_default();
                let locality = locality.parse().map_err(std::io::Error::other)?;
                let command = hex::decode(command)
                    .map_err(|error| std::io::Error::other(error.to_string()))?;
                let ((), used) =
                    stack::used(ROOM, || tpm.execute(locality, &command, &mut response));
                let number = command.get(6..10).and_then(|bytes| bytes.try_into().ok());
                let number = number.map_or(0, u32::from_be_bytes);
                let name = table::find(number).map_or("none", |command| command.name);
                let most = this.stack.entry(name).or_default();
                *most = used.max(*most);
                if code(&response) == 0 {
                    this.succeeded.insert(number);
                }
                this.commands += 1;
            }
            (_, None) => return Err(std::io::Error::other("the file does not begin with `new`")),
        }
    }
    Ok(this)
}

/// Measures what the commands in the file `path` take.
pub fn measure(path: &str, report: &mut dyn FnMut(&str, u64)) {
    let before = HEAP.allocated();
    let measured = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || play(path))
            .expect("a thread")
            .join()
    });
    let measured = measured
        .expect("the engine does not panic")
        .expect("the commands run");
    let heap = HEAP.max_allocated() - before;
    let mut by_use: Vec<_> = measured.stack.iter().collect();
    by_use.sort_by_key(|(_, used)| core::cmp::Reverse(**used));
    for (name, used) in by_use {
        eprintln!("{used:>8} {name}");
    }
    let missing: Vec<_> = table::COMMANDS
        .iter()
        .filter(|command| !measured.succeeded.contains(&command.code))
        .map(|command| command.name)
        .collect();
    assert_eq!(missing, NEVER, "commands that never succeeded");
    let most = measured.stack.values().max().copied().unwrap_or_default();
    report("tpm.stack.command", most as u64);
    report("tpm.stack.manufacture", measured.manufacture as u64);
    report("tpm.stack.power_cycle", measured.power_cycle as u64);
    report("tpm.stack.commands_measured", measured.commands);
    report("tpm.heap.most", heap as u64);
}
