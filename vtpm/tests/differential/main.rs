//! Sends the same generated commands to the engine and to a reference TPM (swtpm) and compares
//! what they answer: response codes, sizes, HMACs, and every field that depends on nothing
//! random.
//!
//! | variable | |
//! |---|---|
//! | `PROOFS=full` | 200,000 commands, not a sample |
//! | `PROOFS_JSON=FILE` | the numbers go into the JSON object in FILE |
//! | `DIFF_COMMANDS=N`, `DIFF_SEED=S` | another number of commands, another stream |
//! | `DIFF_REFERENCE=PATH` | another reference than `swtpm` |
//! | `DIFF_EPOCH=N` | only the commands between two fresh TPMs that have this number, all printed |
//!
//! Prints each kind of difference once, with the command, and how often each command was sent
//! and succeeded. Fails when a difference is not in [`explained::EXPLAINED`].

mod authorize;
mod capability;
mod compare;
mod explained;
mod fields;
mod generate;
mod random;
mod report;
mod sides;
mod step;

use compare::{Difference, compare};
use generate::Generator;
use random::Random;
use report::Report;
use sides::Sides;
use step::{Answer, ENGINE, REFERENCE};

/// Commands between two fresh TPMs.
const EPOCH: u64 = 500;
/// Commands in the sample of `make test`.
const SAMPLE: u64 = 800;
/// Commands of the proof.
const FULL: u64 = 200_000;

/// TPM_CC_Startup
const STARTUP: u32 = 0x144;

/// TPM_RC_FAILURE
const FAILURE: u32 = 0x101;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

#[test]
fn the_reference_answers_the_same() {
    let full = std::env::var("PROOFS").is_ok_and(|value| value == "full");
    let commands = number("DIFF_COMMANDS").unwrap_or(if full { FULL } else { SAMPLE });
    let seed = number("DIFF_SEED").unwrap_or(1);
    let reference = std::env::var("DIFF_REFERENCE").unwrap_or("swtpm".into());
    sides::check_reference(&reference)
        .unwrap_or_else(|error| panic!("{error} (scripts/setup.sh installs swtpm)"));
    let mut report = Report::default();
    if let Some(epoch) = number("DIFF_EPOCH") {
        run_epoch(&reference, seed, epoch, &mut report, true).expect("the reference answers");
        return report.print();
    }
    let mut epoch = 0;
    while report.commands < commands {
        run_epoch(&reference, seed, epoch, &mut report, false)
            .unwrap_or_else(|error| panic!("{error} (is {reference} installed?)"));
        epoch += 1;
    }
    report.print();
    if full {
        report.record();
    }
    assert_eq!(
        report.unexplained(),
        0,
        "differences without an explanation, see above"
    );
}

fn run_epoch(
    reference: &str,
    seed: u64,
    epoch: u64,
    report: &mut Report,
    trace: bool,
) -> std::io::Result<()> {
    let mut random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(epoch));
    let mut sides = Sides::start(reference)?;
    let mut generator = Generator::new();
    for number in 0..EPOCH {
        let mut step = generator.next(&mut random);
        let Some(exchange) = sides.exchange(&step)? else {
            continue;
        };
        if trace {
            println!(
                "{number} at locality {}: {}",
                step.locality,
                exchange.describe()
            );
        }
        let code = exchange.actual.code();
        let opened = (code == 0 && exchange.expected.code() == 0).then(|| {
            [
                step.open(ENGINE, &exchange.actual),
                step.open(REFERENCE, &exchange.expected),
            ]
        });
        let difference = compare(&step, &exchange, opened.as_ref());
        report.count(&step, code, opened.as_ref());
        if let Difference::Unexplained(what) = &difference {
            report.unexplained_difference(
                &step,
                what,
                format!("epoch {epoch}, command {number}: {}", exchange.describe()),
            );
        }
        if let Difference::Explained(rule) = difference {
            report.explained(rule);
        }
        // After a difference the two may disagree about everything: begin anew.
        // And a reference in failure mode only says so.
        // Or where one was reset and the other only restarted.
        let restarted = exchange.code() == STARTUP && exchange.past.committed;
        if exchange.diverged() || restarted || exchange.expected.code() == FAILURE {
            break;
        }
        if let Some(opened) = opened {
            let [engine, reference] = opened;
            generator.roll(&step, [&engine.sessions, &reference.sessions]);
            let handles =
                [&exchange.actual, &exchange.expected].map(|r| r.handle(step.code).unwrap_or(0));
            let answer = Answer {
                handle: handles,
                parameters: [engine.parameters, reference.parameters],
            };
            generator.replaced(handles);
            if let Some(effect) = step.effect.take().filter(|_| step.damage.is_none()) {
                effect(&mut generator, &answer);
            } else {
                generator.altered(&step);
            }
        } else {
            generator.failed(&step, code);
        }
    }
    Ok(())
}
