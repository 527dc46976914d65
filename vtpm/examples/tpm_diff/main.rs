//! Sends the same generated commands to the engine and to a reference TPM (swtpm) and compares
//! what they answer: response codes, sizes, and every field that depends on nothing random.
//!
//! ```text
//! cargo run --release -p vtpm --example tpm_diff -- [--commands N] [--seed S] [--reference PATH]
//! ```
//!
//! Prints each kind of difference once, with the command, then `tpm.diff.commands`,
//! `tpm.diff.explained` (those that [`compare::EXPLAINED`] lists with their reason) and
//! `tpm.diff.unexplained`; ends with status 1 when there are any of the latter.

mod command;
mod compare;
mod generate;
mod random;
mod sides;
mod templates;

use std::{collections::BTreeMap, process::ExitCode};

use compare::{Difference, compare};
use generate::Generator;
use random::Random;
use sides::Sides;

/// Commands between two fresh TPMs.
const EPOCH: u64 = 300;

struct Arguments {
    commands: u64,
    seed: u64,
    reference: String,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        commands: 200_000,
        seed: 1,
        reference: "/usr/bin/swtpm".into(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        match word.as_str() {
            "--commands" => found.commands = number(value()?)?,
            "--seed" => found.seed = number(value()?)?,
            "--reference" => found.reference = value()?,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(found)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("tpm_diff: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tpm_diff: {error} (is swtpm installed?)");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> std::io::Result<u64> {
    let (mut commands, mut explained, mut unexplained) = (0u64, 0u64, 0u64);
    let mut kinds: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut succeeded: BTreeMap<u32, u64> = BTreeMap::new();
    let mut epoch = 0;
    while commands < arguments.commands {
        let mut random = Random::new(arguments.seed.wrapping_mul(1_000_003).wrapping_add(epoch));
        let mut sides = Sides::start(&arguments.reference)?;
        let mut generator = Generator::new();
        for _ in 0..EPOCH {
            let step = generator.next(&mut random);
            let Some(exchange) = sides.exchange(&step)? else {
                continue;
            };
            commands += 1;
            if exchange.actual.code() == 0 {
                *succeeded.entry(step.code).or_default() += 1;
            }
            match compare(&step, &exchange) {
                Difference::None => {}
                Difference::Explained => explained += 1,
                Difference::Unexplained(what) => {
                    unexplained += 1;
                    let kind = format!("{:#05x} {what}", step.code);
                    let detail = format!("epoch {epoch}: {}", exchange.describe());
                    kinds.entry(kind).or_insert((0, detail)).0 += 1;
                }
            }
            // After a difference the two may disagree about everything: begin anew.
            if exchange.diverged() {
                break;
            }
            generator.learn(&step, &exchange);
        }
        epoch += 1;
    }
    let mut sorted: Vec<_> = kinds.into_iter().collect();
    sorted.sort_by_key(|(_, (count, _))| core::cmp::Reverse(*count));
    for (kind, (count, detail)) in &sorted {
        println!("{count} x {kind}\n    {detail}");
    }
    println!("tpm.diff.commands {commands}");
    println!("tpm.diff.codes_that_succeeded {}", succeeded.len());
    println!("tpm.diff.explained {explained}");
    println!("tpm.diff.unexplained {unexplained}");
    Ok(unexplained)
}
