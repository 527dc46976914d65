//! QEMU killed at random moments while a client uses the TPM: what was answered is there
//! after the next boot, counters never repeat a value, failed authorizations stay counted,
//! and the TPM is the same one and starts.
//!
//! `KILLS` says how often; `PROOFS_JSON` names a file of numbers to add to.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::setting::{LOADED, MANUFACTURED};
use e2e::{Serving, Setting, link, proofs};
use guestlink::client::{Link, LinkError};
use guestlink::tpm_calls;
use vtpm::client::{Client, Failed, LOCKOUT_COUNTER, Transport};

const SAMPLE: u64 = 3;

/// Every how manieth image is a new one, whose TPM is killed while it is manufactured.
const NEW_IMAGE: u64 = 10;

/// Every how manieth kill happens before the TPM can be used.
const IN_BOOT: u64 = 5;

/// How long a client works at most before the plug is pulled.
const LONGEST_WORK: Duration = Duration::from_millis(1500);

/// Longest answer of a guest that is alive.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Attributes: owner reads and writes.
const BY_OWNER: u32 = 0x0002_0002;
/// The same, a counter.
const COUNTING: u32 = BY_OWNER | 0x10;
/// A counter that is kept in memory and written now and then.
const ORDERLY: u32 = COUNTING | 1 << 26;
/// Written by the owner, read with the password; guesses count.
const GUARDED: u32 = 0x0004_0002;

const DATA: u32 = 0x0150_0000;
const COUNTER: u32 = 0x0150_0001;
const ORDERLY_COUNTER: u32 = 0x0150_0002;
const SECRET: u32 = 0x0150_0003;

/// Size of the data, more than a block of the volume.
const SIZE: u16 = 1000;

const TPM_RC_NV_DEFINED: u32 = 0x14C;
const TPM_RC_AUTH_FAIL: u32 = 0x98E;

struct Wire(Link<UnixStream>);

impl Transport for Wire {
    type Error = LinkError;

    fn execute(&mut self, command: &[u8]) -> Result<Vec<u8>, LinkError> {
        tpm_calls::execute(&mut self.0, command)
    }
}

type Tpm = Client<Wire>;

/// What a client was told, by all boots on an image.
#[derive(Clone, Debug, Default)]
struct Told {
    /// The manifest with the endorsement key.
    manifest: Option<String>,
    /// Indices that are defined, and whether guesses are to be counted.
    indices: usize,
    protected: bool,
    /// What the data was last written to, and to what it perhaps was.
    data: u64,
    data_perhaps: Option<u64>,
    /// Values of the counters, and whether an increment was not answered.
    counter: u64,
    counter_perhaps: bool,
    orderly: u64,
    /// Failed authorizations, and whether one was not answered.
    failures: u32,
    failures_perhaps: bool,
}

fn content(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    bytes.iter().copied().cycle().take(SIZE.into()).collect()
}

fn connect(socket: &Path) -> Result<Tpm, LinkError> {
    let mut link = Link::connect(socket)?;
    link.set_call_limit(ANSWER_LIMIT);
    Ok(Client(Wire(link)))
}

/// Uses the TPM until it answers no more.
fn work(tpm: &mut Tpm, told: &mut Told) -> Result<(), Failed<LinkError>> {
    if !told.protected {
        // Nobody is locked out, and nothing is forgotten in the time this takes.
        tpm.protection(1_000_000, 1_000_000)?;
        told.protected = true;
    }
    let indices = [
        (DATA, BY_OWNER, SIZE, &b""[..]),
        (COUNTER, COUNTING, 8, b""),
        (ORDERLY_COUNTER, ORDERLY, 8, b""),
        (SECRET, GUARDED, 8, b"right"),
    ];
    for (index, attributes, size, auth) in &indices[told.indices..] {
        match tpm.define(*index, *attributes, *size, auth) {
            // Perhaps by a command that was not answered.
            Ok(()) | Err(Failed::Code(TPM_RC_NV_DEFINED)) => told.indices += 1,
            Err(error) => return Err(error),
        }
    }
    tpm.write(SECRET, b"a secret")?;
    loop {
        let next = told.data_perhaps.unwrap_or(told.data) + 1;
        told.data_perhaps = Some(next);
        tpm.write(DATA, &content(next))?;
        (told.data, told.data_perhaps) = (next, None);

        told.counter_perhaps = true;
        tpm.increment(COUNTER)?;
        let counter = tpm.counter(COUNTER)?;
        assert!(counter > told.counter, "{counter} after {}", told.counter);
        (told.counter, told.counter_perhaps) = (counter, false);

        tpm.increment(ORDERLY_COUNTER)?;
        let orderly = tpm.counter(ORDERLY_COUNTER)?;
        assert!(orderly > told.orderly, "{orderly} after {}", told.orderly);
        told.orderly = orderly;

        told.failures_perhaps = true;
        match tpm.read_as(SECRET, b"wrong", SECRET, 8) {
            Err(Failed::Code(TPM_RC_AUTH_FAIL)) => {}
            Err(error) => return Err(error),
            Ok(_) => panic!("read with a wrong password"),
        }
        told.failures += 1;
        told.failures_perhaps = false;
    }
}

/// What is not as it was told, after a boot. `told` is what was found, then.
fn check(serving: &Serving, told: &mut Told) -> Result<Tpm> {
    let log = serving.log();
    if told.manifest.is_some() {
        ensure!(log.contains(LOADED), "the TPM is another one:\n{log}");
    } else {
        let again = "vTPM: manufactured new state, an earlier manufacture was interrupted";
        let expected = [LOADED, MANUFACTURED, again];
        ensure!(expected.iter().any(|line| log.contains(line)), "{log}");
    }
    let manifest = serving.guestlink(&["manifest"])?;
    let known = told.manifest.get_or_insert_with(|| manifest.clone());
    ensure!(*known == manifest, "another endorsement key");

    let mut tpm = connect(&serving.socket())?;
    tpm.startup().context("Startup")?;
    if told.data > 0 {
        let data = tpm.read(DATA, SIZE).context("data")?;
        let perhaps = told.data_perhaps.unwrap_or(told.data);
        if data == content(perhaps) {
            told.data = perhaps;
        } else {
            ensure!(data == content(told.data), "data is none of both");
        }
        told.data_perhaps = None;
    }
    if told.counter > 0 {
        let found = tpm.counter(COUNTER).context("counter")?;
        let most = told.counter + u64::from(told.counter_perhaps);
        ensure!((told.counter..=most).contains(&found), "counter at {found}");
        told.counter = found;
    }
    if told.orderly > 0 {
        let found = tpm.counter(ORDERLY_COUNTER).context("orderly counter")?;
        ensure!(found >= told.orderly, "orderly counter at {found}");
        told.orderly = found;
    }
    let found = tpm.property(LOCKOUT_COUNTER).context("lockout counter")?;
    // A start after a boot that used what is protected, and did not end in order, counts
    // one more.
    let most = told.failures + u32::from(told.failures_perhaps) + 1;
    ensure!(
        (told.failures..=most).contains(&found),
        "{found} failures counted"
    );
    (told.failures, told.failures_perhaps) = (found, false);
    Ok(tpm)
}

/// Boots, checks, and pulls the plug `life` after the check, while a client works; whether
/// it did.
fn killed_at_work(setting: &Setting, told: &mut Told, life: Duration) -> Result<bool> {
    let serving = setting.boot()?;
    let mut tpm = check(&serving, told).with_context(|| format!("{told:?}"))?;
    let before = told.counter;
    let outcome = std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(&mut tpm, told));
        std::thread::sleep(life);
        let boot = serving.kill();
        (worker.join(), boot)
    });
    match outcome {
        (Ok(Err(Failed::Transport(LinkError::Io(_)))), Ok(_)) => Ok(told.counter > before),
        (Err(_), _) => bail!("a counter repeated a value, or a wrong password was right"),
        (Ok(end), boot) => bail!("the client ended with {end:?}; {:?}", boot?.log()),
    }
}

#[test]
fn a_disk_that_forgot_what_was_answered_is_noticed_by_this_test() -> Result<()> {
    let setting = Setting::with_tpm()?;
    let mut told = Told::default();
    let old = setting.servers.path("old.img");
    killed_at_work(&setting, &mut told, LONGEST_WORK)?;
    std::fs::copy(&setting.state, &old)?;
    killed_at_work(&setting, &mut told, LONGEST_WORK)?;
    std::fs::copy(&old, &setting.state)?;
    let serving = setting.boot()?;
    assert!(check(&serving, &mut told).is_err());
    // And another TPM.
    drop(serving);
    let other = Setting::with_tpm()?;
    std::fs::copy(&other.state, &setting.state)?;
    let serving = setting.boot()?;
    let error = check(&serving, &mut told).err().context("accepted")?;
    assert!(error.to_string().contains("another endorsement key"));
    Ok(())
}

#[test]
fn what_the_tpm_answered_survives_kills_and_it_never_becomes_another() -> Result<()> {
    let runs = match std::env::var("KILLS") {
        Ok(number) => number.parse().context("KILLS is a number")?,
        Err(_) => SAMPLE,
    };
    let mut setting = Setting::new()?;
    let mut told = Told::default();
    let mut boot_time = Duration::from_secs(5);
    let mut lost = 0;
    let (mut at_work, mut could_work) = (0, 0);
    for run in 0..runs {
        if run % NEW_IMAGE == 0 {
            setting = Setting::new()?;
            told = Told::default();
        }
        if run % IN_BOOT == 0 {
            let process =
                Serving::launch(link::KERNEL, &setting.guest(), &setting.servers.path(""))?;
            std::thread::sleep(boot_time.mul_f64(proofs::fraction(run)));
            process.kill()?;
            continue;
        }
        let start = Instant::now();
        let life = LONGEST_WORK.mul_f64(proofs::fraction(run));
        could_work += 1;
        match killed_at_work(&setting, &mut told, life) {
            Ok(worked) => at_work += u64::from(worked),
            Err(error) => {
                eprintln!("run {run}: {error:#}");
                lost += 1;
                setting = Setting::new()?;
                told = Told::default();
            }
        }
        boot_time = start.elapsed().saturating_sub(life);
    }
    let serving = setting.boot()?;
    if let Err(error) = check(&serving, &mut told) {
        eprintln!("after the last run: {error:#}; {told:?}");
        lost += 1;
    }
    serving.shut_down()?.assert_complete();
    proofs::record(&[("tpm.kill.runs", runs), ("tpm.kill.lost", lost)])?;
    assert_eq!(lost, 0);
    assert!(
        at_work * 2 >= could_work,
        "only {at_work} of {could_work} guests were killed after a round of work"
    );
    Ok(())
}
