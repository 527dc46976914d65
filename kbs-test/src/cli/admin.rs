//! The administrator's commands. They work on the database, whether or not a server has it open.
//!
//! Every change is written to the audit log before it is made; a change that cannot be logged is not
//! made.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::values::{SecretSource, TcbText};
use crate::audit::Audit;
use crate::config::{Measurement, SVSM_MIN_SECRET, Secret};
use crate::jws;
use crate::snp::test_root::TestRoot;
use crate::static_key::StaticKey;
use crate::store::{Store, Writing};
use crate::volume::{Identity, Ledger, LedgerMode, Policy, State, Volume, VolumeName};

/// Which database, and where changes are logged.
#[derive(Debug, Args)]
pub struct DbArgs {
    /// The database.
    #[arg(long, value_name = "FILE")]
    pub db: PathBuf,

    /// Append the change to FILE, one JSON object a line. The server may use the same file.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
}

impl DbArgs {
    fn open(&self, create: bool) -> Result<(Store, Audit)> {
        let audit = match &self.audit {
            Some(path) => Audit::open(path)
                .with_context(|| format!("cannot open the audit log {}", path.display()))?,
            None => Audit::default(),
        };
        Ok((Store::open(&self.db, create)?, audit))
    }

    /// Changes a volume that exists. `change` returns what the audit log says about it.
    fn change(
        &self,
        name: &VolumeName,
        event: &str,
        change: impl FnOnce(&Writing, &mut Volume) -> Result<Value>,
    ) -> Result<Volume> {
        let (store, audit) = self.open(false)?;
        store.write(|tables| -> Result<Volume> {
            let mut volume = tables
                .volume(name)?
                .ok_or_else(|| anyhow!("volume {name} is not registered"))?;
            let facts = change(tables, &mut volume)?;
            tables.put_volume(name, &volume)?;
            record(&audit, event, name, facts)?;
            Ok(volume)
        })
    }
}

pub(super) fn record(
    audit: &Audit,
    event: &str,
    name: &VolumeName,
    mut facts: Value,
) -> Result<()> {
    facts["volume"] = name.as_str().into();
    // Who was it? The account is what the operating system can tell.
    facts["by-uid"] = fs::metadata("/proc/self").ok().map(|m| m.uid()).into();
    audit
        .record(event, facts)
        .context("cannot write the audit log, nothing was changed")
}

/// Who may have a secret.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// A launch measurement to accept, 96 hex digits; give it once for each.
    #[arg(long, value_name = "HEX")]
    pub measurement: Vec<Measurement>,

    /// Accept every launch measurement.
    #[arg(long, conflicts_with = "measurement")]
    pub any_measurement: bool,

    /// Accept sample evidence, which proves nothing.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub allow_sample: Option<bool>,

    /// Lowest security versions of the platform, such as bootloader=3,snp=8,microcode=115.
    #[arg(long, value_name = "NAME=NUMBER,...")]
    pub min_tcb: Option<TcbText>,

    /// Refuse guests whose policy allows SMT.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub forbid_smt: Option<bool>,

    /// What SVSMs report: nothing, every boot, or every commit as well, answered before (commit) or
    /// after (strict) it is recorded.
    #[arg(long, value_name = "MODE")]
    pub ledger: Option<LedgerMode>,

    /// Clone protection: one release for each "kbs-test prime".
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub prime: Option<bool>,

    /// For development: the SVSM may format the disk at any time.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub allow_format: Option<bool>,
}

impl PolicyArgs {
    fn apply(&self, volume: &mut Volume) {
        let Policy {
            measurements,
            allow_sample,
            min_tcb,
            forbid_smt,
            ..
        } = &mut volume.policy;
        if self.any_measurement || !self.measurement.is_empty() {
            measurements.clone_from(&self.measurement);
        }
        let set = |target: &mut bool, value: Option<bool>| *target = value.unwrap_or(*target);
        set(allow_sample, self.allow_sample);
        set(forbid_smt, self.forbid_smt);
        set(&mut volume.allow_format, self.allow_format);
        set(&mut volume.prime, self.prime);
        *min_tcb = self.min_tcb.map_or(*min_tcb, |t| t.0);
        volume.mode = self.ledger.unwrap_or(volume.mode);
        // A priming left over from earlier would let a first clone through.
        volume.primed &= volume.prime;
    }
}

/// `kbs-test register`.
#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// Its name, repository/type/tag, as in default/sample/test.
    pub volume: VolumeName,

    #[command(flatten)]
    db: DbArgs,

    #[command(flatten)]
    secret: SecretSource,

    #[command(flatten)]
    policy: PolicyArgs,

    /// The disk exists already, formatted under this secret: an SVSM may not format another.
    #[arg(long)]
    formatted: bool,
}

/// `kbs-test set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Which volume.
    pub volume: VolumeName,

    #[command(flatten)]
    db: DbArgs,

    #[command(flatten)]
    secret: SecretSource,

    #[command(flatten)]
    policy: PolicyArgs,
}

/// Commands on one volume.
#[derive(Debug, Args)]
pub struct VolumeArgs {
    /// Which volume.
    pub volume: VolumeName,

    #[command(flatten)]
    db: DbArgs,
}

/// `kbs-test prime`.
#[derive(Debug, Args)]
pub struct PrimeArgs {
    /// Which volume.
    pub volume: VolumeName,

    #[command(flatten)]
    db: DbArgs,

    /// Take back a priming that was not used.
    #[arg(long)]
    revoke: bool,
}

/// `kbs-test ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Print what is known of a volume's disk.
    Show(VolumeArgs),
    /// Accept another disk than the last one reported, such as a backup.
    ///
    /// This is a rollback, done on purpose: whatever was revoked or changed on the disk since then is
    /// as it was before. Stop the VM first; reports of an SVSM that still runs are refused afterwards.
    Set(LedgerSetArgs),
}

/// `kbs-test ledger set`.
#[derive(Debug, Args)]
pub struct LedgerSetArgs {
    /// Which volume.
    pub volume: VolumeName,

    #[command(flatten)]
    db: DbArgs,

    /// The epoch of the disk, as the SVSM's message about it says.
    #[arg(long, value_name = "NUMBER")]
    epoch: Option<u64>,

    /// Its update counter.
    #[arg(long, value_name = "NUMBER")]
    counter: Option<u64>,

    /// Its identity, 64 hex digits, or "none" to take the next one that is reported.
    #[arg(long, value_name = "HEX")]
    identity: Option<IdentityArg>,

    /// "new" allows the SVSM to format a disk, whose counter begins at 0.
    #[arg(long, value_name = "STATE")]
    state: Option<State>,

    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// An identity or `none`.
#[derive(Clone, Copy, Debug)]
pub struct IdentityArg(Option<Identity>);

impl std::str::FromStr for IdentityArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            text => text.parse().map(|i| Self(Some(i))),
        }
    }
}

/// `kbs-test list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    db: DbArgs,

    /// One JSON object for each volume, a line each.
    #[arg(long)]
    json: bool,
}

/// `kbs-test show-key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The database; made, with a fresh key, if it is not there.
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
}

/// `kbs-test sign-secret`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The owner's private key, P-384, PKCS#8 in PEM; made with
    /// "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384".
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "db",
        required_unless_present = "db"
    )]
    key: Option<PathBuf>,

    /// Sign with the static key of this database instead.
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,

    /// The volume that the secret is for, repository/type/tag.
    #[arg(long, value_name = "NAME")]
    volume: VolumeName,

    /// Generation of the secret: 1, and one more whenever it is replaced.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    generation: u64,

    #[command(flatten)]
    secret: SecretSource,
}

/// `kbs-test make-test-root`.
#[derive(Debug, Args)]
pub struct TestRootArgs {
    /// Where to put ark.pem, ask.pem, vcek.pem, vcek.key and certs.bin; made if it is not there.
    pub dir: PathBuf,
}

fn short_secret_warning(secret: &Secret) {
    let length = secret.as_bytes().len();
    if length < SVSM_MIN_SECRET {
        eprintln!(
            "kbs-test: warning: the secret has {length} bytes: an SVSM refuses fewer than \
             {SVSM_MIN_SECRET}"
        );
    }
}

pub(super) fn register(args: &RegisterArgs) -> Result<()> {
    let name = &args.volume;
    let Some(secret) = args.secret.read()? else {
        bail!("no secret: give --secret-file FILE, --generate-secret or --secret HEX");
    };
    if args.policy.measurement.is_empty() && !args.policy.any_measurement {
        bail!(
            "no measurement: give --measurement HEX (igvmmeasure prints it), or --any-measurement"
        );
    }
    short_secret_warning(&secret);
    let mut volume = Volume::new(Policy::default());
    args.policy.apply(&mut volume);
    if args.formatted {
        volume.ledger.state = State::Formatted;
    }
    let (store, audit) = args.db.open(true)?;
    store.write(|tables| -> Result<()> {
        if tables.volume(name)?.is_some() {
            bail!("volume {name} is registered already: change it with kbs-test set {name}");
        }
        tables.put_volume(name, &volume)?;
        tables.put_secret(name, &secret)?;
        record(&audit, "admin.register", name, settings(&volume))
    })?;
    eprintln!("kbs-test: volume {name} registered");
    eprintln!("kbs-test: static key {}", store.key().fingerprint());
    Ok(())
}

pub(super) fn set(args: &SetArgs) -> Result<()> {
    let name = &args.volume;
    let secret = args.secret.read()?;
    if let Some(secret) = &secret {
        short_secret_warning(secret);
    }
    let volume = args.db.change(name, "admin.set", |tables, volume| {
        args.policy.apply(volume);
        if let Some(secret) = &secret {
            tables.put_secret(name, secret)?;
            volume.generation += 1;
        }
        Ok(settings(volume))
    })?;
    eprintln!(
        "kbs-test: volume {name} changed{}",
        match secret {
            Some(_) => format!(", its secret has generation {}", volume.generation),
            None => String::new(),
        }
    );
    Ok(())
}

pub(super) fn remove(args: &VolumeArgs) -> Result<()> {
    let name = &args.volume;
    let (store, audit) = args.db.open(false)?;
    store.write(|tables| -> Result<()> {
        let volume = tables.volume(name)?;
        let volume = volume.ok_or_else(|| anyhow!("volume {name} is not registered"))?;
        tables.remove(name)?;
        record(&audit, "admin.remove", name, settings(&volume))
    })?;
    eprintln!("kbs-test: volume {name} removed");
    Ok(())
}

pub(super) fn prime(args: &PrimeArgs) -> Result<()> {
    let name = &args.volume;
    let mut before = false;
    args.db.change(name, "admin.prime", |_, volume| {
        if !volume.prime {
            bail!(
                "volume {name} has no clone protection: turn it on with kbs-test set {name} --prime"
            );
        }
        before = volume.primed;
        volume.primed = !args.revoke;
        Ok(json!({"primed": volume.primed}))
    })?;
    let said = match (args.revoke, before) {
        (true, true) => "its priming is taken back",
        (true, false) => "it was not primed",
        (false, true) => "it was primed already; one release is allowed",
        (false, false) => "one release is allowed",
    };
    eprintln!("kbs-test: volume {name}: {said}");
    Ok(())
}

pub(super) fn ledger_show(args: &VolumeArgs) -> Result<()> {
    let name = &args.volume;
    let (store, _) = args.db.open(false)?;
    let volume = store
        .volume(name)?
        .ok_or_else(|| anyhow!("volume {name} is not registered"))?;
    let Ledger {
        state,
        identity,
        epoch,
        counter,
    } = volume.ledger;
    let identity = identity.map_or_else(|| "none".to_owned(), |i| i.to_string());
    print(&format!(
        "ledger   {}\nstate    {}\nidentity {identity}\nepoch    {epoch}\ncounter  {counter}\n",
        volume.mode.name(),
        state.name(),
    ))
}

pub(super) fn ledger_set(args: &LedgerSetArgs) -> Result<()> {
    let name = &args.volume;
    if args.epoch.is_none()
        && args.counter.is_none()
        && args.identity.is_none()
        && args.state.is_none()
    {
        bail!("nothing to set: give --epoch, --counter, --identity or --state");
    }
    if args.reason.trim().is_empty() {
        bail!("give a --reason, it is for the audit log");
    }
    let mut before = Ledger::default();
    let volume = args.db.change(name, "admin.ledger-set", |tables, volume| {
        before = volume.ledger;
        let ledger = &mut volume.ledger;
        ledger.epoch = args.epoch.unwrap_or(ledger.epoch);
        ledger.counter = args.counter.unwrap_or(ledger.counter);
        ledger.identity = args.identity.map_or(ledger.identity, |i| i.0);
        ledger.state = args.state.unwrap_or(ledger.state);
        if ledger.state == State::New {
            // The disk to come counts from the beginning; epochs go on.
            ledger.identity = None;
            ledger.counter = 0;
        }
        // An SVSM that still runs would write the old history on.
        tables.end_sessions(name, None)?;
        Ok(json!({"severity": "warning", "reason": args.reason,
            "before": before, "after": *ledger}))
    })?;
    eprintln!(
        "kbs-test: warning: LEDGER OF VOLUME {name} CHANGED BY HAND: {} -> {}; reason: {}",
        summary(&before),
        summary(&volume.ledger),
        args.reason
    );
    eprintln!("kbs-test: the next boot is told the new values; SVSMs that run now cannot report");
    Ok(())
}

pub(super) fn list(args: &ListArgs) -> Result<()> {
    let (store, _) = args.db.open(false)?;
    let mut text = String::new();
    for (name, volume) in store.volumes()? {
        if args.json {
            let mut value = settings(&volume);
            value["volume"] = name.as_str().into();
            value["state"] = serde_json::to_value(volume.ledger)?;
            text += &format!("{value}\n");
            continue;
        }
        let mut remarks = Vec::new();
        match volume.policy.measurements.len() {
            0 => remarks.push("any measurement".to_owned()),
            1 => {}
            n => remarks.push(format!("{n} measurements")),
        }
        let flags = [
            (volume.policy.allow_sample, "sample evidence allowed"),
            (volume.policy.forbid_smt, "SMT forbidden"),
            (volume.allow_format, "may be formatted"),
            (volume.prime && volume.primed, "primed"),
            (volume.prime && !volume.primed, "not primed"),
        ];
        remarks.extend(flags.iter().filter(|f| f.0).map(|f| f.1.to_owned()));
        text += &format!(
            "{name}  ledger={}  generation={}  {}  releases={}  {}\n",
            volume.mode.name(),
            volume.generation,
            summary(&volume.ledger),
            volume.releases,
            remarks.join(", ")
        );
    }
    print(&text)
}

fn summary(ledger: &Ledger) -> String {
    format!(
        "{} epoch={} counter={} identity={}",
        ledger.state.name(),
        ledger.epoch,
        ledger.counter,
        ledger
            .identity
            .map_or_else(|| "none".to_owned(), |i| i.to_string())
    )
}

/// What the audit log and the list say about a volume's settings.
pub(super) fn settings(volume: &Volume) -> Value {
    json!({"policy": volume.policy, "generation": volume.generation, "ledger": volume.mode.name(),
        "prime": volume.prime, "primed": volume.primed, "allow-format": volume.allow_format,
        "releases": volume.releases})
}

pub(super) fn show_key(args: &KeyArgs) -> Result<()> {
    let store = Store::open(&args.db, true)?;
    eprintln!("kbs-test: static key {}", store.key().fingerprint());
    print(&store.key().public_pem()?)
}

pub(super) fn sign_secret(args: &SignArgs) -> Result<()> {
    let Some(secret) = args.secret.read()? else {
        bail!("no secret: give --secret-file FILE, --generate-secret or --secret HEX");
    };
    short_secret_warning(&secret);
    let key = match (&args.key, &args.db) {
        (Some(path), _) => {
            let pem = fs::read_to_string(path).map(Zeroizing::new);
            let pem = pem.with_context(|| format!("cannot read {}", path.display()))?;
            StaticKey::from_pem(&pem).with_context(|| format!("cannot use {}", path.display()))?
        }
        (None, Some(path)) => Store::open(path, false)?.key().clone(),
        (None, None) => bail!("give --key FILE or --db FILE"),
    };
    eprintln!("kbs-test: signed by {}", key.fingerprint());
    let jws = jws::sign_secret(&key, &secret, &args.volume, args.generation);
    print(&jws)
}

pub(super) fn make_test_root(args: &TestRootArgs) -> Result<()> {
    let dir = args.dir.display();
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make the directory {dir}"))?;
    TestRoot::generate()?.write(&args.dir)?;
    eprintln!("kbs-test: test root made; a server trusts it with --root {dir}/ark.pem");
    Ok(())
}

/// To standard output; a reader that has seen enough is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(e).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
