//! QEMU killed at random moments while a guest sets UEFI variables: what was answered is
//! there after the next boot, the call under way is there or not, and nothing else is.
//!
//! `KILLS` says how often; `PROOFS_JSON` names a file of numbers to add to.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::link::KERNEL;
use e2e::{Serving, Setting, proofs};
use guestlink::client::{Link, LinkError};
use guestlink::variables::{self, VariableError};
use uefivars::{Guid, Status};

const SAMPLE: u64 = 3;

/// Every how manieth kill happens in the boot, before a guest can do anything.
const IN_BOOT: u64 = 5;

/// How long a guest works at most before the plug is pulled.
const LONGEST_WORK: Duration = Duration::from_millis(1500);

/// Longest answer of an SVSM that is alive.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A namespace of ours.
const OURS: Guid = uefivars::guid!("5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a");
const NAMES: [&str; 5] = ["A", "B", "C", "D", "E"];
const ATTRIBUTES: u32 = 7;

/// What the guest was told, by all boots on the image.
#[derive(Clone, Debug, Default)]
struct Told {
    calls: u64,
    values: BTreeMap<&'static str, Vec<u8>>,
    /// The call that was not answered: which variable, and what it is after the call.
    perhaps: Option<(&'static str, Option<Vec<u8>>)>,
}

impl Told {
    fn take(&mut self, name: &'static str, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.values.insert(name, value),
            None => self.values.remove(name),
        };
    }

    /// The next call: mostly values of all sizes around that of a block, deletions between.
    fn next(&mut self) -> (&'static str, Option<Vec<u8>>) {
        self.calls += 1;
        let calls = self.calls as usize;
        let name = NAMES[calls % NAMES.len()];
        if calls % 7 == 6 && self.values.contains_key(name) {
            return (name, None);
        }
        let size = 1 + calls * 37 % 900;
        let value = self.calls.to_be_bytes().into_iter().cycle().take(size);
        (name, Some(value.collect()))
    }
}

/// Sets variables until nobody answers any more.
fn work(link: &mut Link<UnixStream>, told: &mut Told) -> Result<(), VariableError> {
    loop {
        let (name, value) = told.next();
        told.perhaps = Some((name, value.clone()));
        let data = value.as_deref().unwrap_or_default();
        variables::set(link, OURS, name, ATTRIBUTES, data)?;
        told.take(name, value);
        told.perhaps = None;
    }
}

/// Whether everything is as it was told; `told` is what was found, then.
fn check(serving: &Serving, told: &mut Told) -> Result<Link<UnixStream>> {
    let mut link = Link::connect(&serving.socket())?;
    link.set_call_limit(ANSWER_LIMIT);
    for name in NAMES {
        let found = match variables::get(&mut link, OURS, name) {
            Ok(variable) => Some(variable.data),
            Err(VariableError::Status { status, .. }) if status == Status::NOT_FOUND => None,
            Err(error) => return Err(error.into()),
        };
        let known = told.values.get(name);
        let perhaps = match &told.perhaps {
            Some((of, value)) if *of == name => Some(value),
            _ => None,
        };
        ensure!(
            found.as_ref() == known || perhaps == Some(&found),
            "{name} is {found:02x?}; told was {known:02x?}, perhaps {perhaps:02x?}"
        );
        told.take(name, found);
    }
    told.perhaps = None;
    let loaded = format!("UEFI variables: {} loaded", told.values.len());
    ensure!(serving.log().contains(&loaded), "{}", serving.log());
    Ok(link)
}

/// Boots, checks, and pulls the plug `life` after the check, while the guest works; how
/// many calls were answered.
fn killed_at_work(setting: &Setting, told: &mut Told, life: Duration) -> Result<u64> {
    let serving = setting.boot()?;
    let mut link = check(&serving, told).with_context(|| format!("{told:02x?}"))?;
    let before = told.calls;
    let (end, boot) = std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(&mut link, told));
        std::thread::sleep(life);
        let boot = serving.kill();
        (worker.join(), boot)
    });
    match end {
        Ok(Err(VariableError::Link(LinkError::Io(_)))) => {
            boot?;
            Ok(told.calls - before - 1)
        }
        end => bail!("the guest ended with {end:?}; {}", boot?.log()),
    }
}

#[test]
fn what_was_answered_about_a_variable_survives_kills() -> Result<()> {
    let runs = match std::env::var("KILLS") {
        Ok(number) => number.parse().context("KILLS is a number")?,
        Err(_) => SAMPLE,
    };
    let mut setting = Setting::with_tpm()?;
    let mut told = Told::default();
    let mut boot_time = Duration::from_secs(5);
    let (mut lost, mut answered) = (0, 0);
    for run in 0..runs {
        // The first boot has nothing to lose yet.
        if run % IN_BOOT == IN_BOOT - 1 {
            let process = Serving::launch(KERNEL, &setting.guest(), &setting.servers.path(""))?;
            std::thread::sleep(boot_time.mul_f64(proofs::fraction(run)));
            process.kill()?;
            continue;
        }
        let start = Instant::now();
        let life = LONGEST_WORK.mul_f64(proofs::fraction(run));
        match killed_at_work(&setting, &mut told, life) {
            Ok(calls) => answered += calls,
            Err(error) => {
                eprintln!("run {run}: {error:#}");
                lost += 1;
                setting = Setting::with_tpm()?;
                told = Told::default();
            }
        }
        boot_time = start.elapsed().saturating_sub(life);
    }
    let serving = setting.boot()?;
    if let Err(error) = check(&serving, &mut told) {
        eprintln!("after the last run: {error:#}; {told:02x?}");
        lost += 1;
    }
    serving.shut_down()?.assert_complete();
    proofs::record(&[("uefi.kill.runs", runs), ("uefi.kill.lost", lost)])?;
    assert_eq!(lost, 0);
    assert!(
        answered > runs,
        "only {answered} calls answered in {runs} runs"
    );
    Ok(())
}
