//! Looks into the UEFI variables of a guest from outside, puts the first keys in, and
//! repairs what a boot refuses. Never changes a variable that is there.

#![forbid(unsafe_code)]

mod keys;
mod records;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use uefivars::host::{fd, json};
use uefivars::memory::Memory;
use uefivars::storage::{Change, Storage};
use uefivars::variable::Variable;
use uefivars::{Config, Enrolled, Guid, Mode, Service, guid, microsoft, record};

use records::Place;

/// Reads and prepares the UEFI variables of a Secure VM Service Module.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List variables, and which Secure Boot mode they make
    Show,
    /// Check every record, and say which ones a boot would refuse
    Check,
    /// Enrol a first PK, KEK, db and dbx; changes nothing if any of them is there
    Enroll(Chosen),
    /// Write a first PK, KEK, db and dbx to a file, for a boot image that enrols them
    Set {
        #[command(flatten)]
        chosen: Chosen,
        /// The file to write
        file: PathBuf,
    },
    /// Add the variables of a QEMU JSON file that are not there yet
    Import {
        /// The JSON file
        file: PathBuf,
    },
    /// Write all variables to a file
    Export {
        #[arg(long, value_enum)]
        format: Format,
        /// The file to write
        file: PathBuf,
    },
    /// Remove a record, so that a store with damage boots again
    Drop {
        /// Number of the record, from `check`
        index: u32,
    },
}

#[derive(Args)]
struct Chosen {
    /// Microsoft's KEK, db and dbx; without --pk below a PK that nobody has a key for
    #[arg(long)]
    microsoft: bool,
    /// Platform key: a certificate (DER or PEM), or a signature list
    #[arg(long)]
    pk: Option<PathBuf>,
    /// Key exchange keys: certificates or signature lists
    #[arg(long)]
    kek: Vec<PathBuf>,
    /// What may boot: certificates or signature lists
    #[arg(long)]
    db: Vec<PathBuf>,
    /// What may not boot: certificates or signature lists
    #[arg(long)]
    dbx: Vec<PathBuf>,
    /// Owner that certificates are entered with
    #[arg(long, default_value_t = guid!("9f4d8a36-0c1e-4c0b-8d0e-7d3f5a6be2c1"))]
    owner: Guid,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// QEMU's variable service, version 2; virt-fw-vars reads it
    Json,
    /// Flash image of edk2, as OVMF_VARS_4M.fd
    Fd,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Command::Set { chosen, file } = &cli.command {
        let bytes = chosen.read()?.initial().encode()?;
        return fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()));
    }
    let before = cli.place.load()?;
    let mut disk = Memory::with(before.clone());
    match cli.command {
        Command::Show => return show(&disk),
        Command::Check => return check(&disk),
        Command::Export { format, file } => return export(disk, format, &file),
        Command::Enroll(chosen) => disk = enroll(disk, &chosen)?,
        // It needs no records, and was done above.
        Command::Set { .. } => {}
        Command::Import { file } => import(&mut disk, &file)?,
        Command::Drop { index } => {
            let record = disk.records_mut().remove(&index);
            ensure!(record.is_some(), "there is no record {index}");
            println!("record {index} removed");
        }
    }
    if *disk.records() != before {
        cli.place.store(&before, disk.records())?;
    }
    Ok(())
}

/// The service over these records, as a boot would start it.
fn service(disk: Memory) -> Result<Service<Memory>> {
    Service::new(disk, Config::default())
        .context("a boot would stop here; `check` lists all damage, `drop` removes a record")
}

fn show(disk: &Memory) -> Result<()> {
    let service = service(disk.clone())?;
    for variable in stored(&service)? {
        println!(
            "{:36}  {:15} {:6}  {}",
            variable.key.guid,
            variable.attributes.to_string(),
            variable.data.len(),
            variable.key.name
        );
    }
    let mode = match service.mode() {
        Mode::Setup => "setup",
        Mode::Audit => "audit",
        Mode::User => "user",
        Mode::Deployed => "deployed",
    };
    let secure_boot = match service.flags().secureboot_enabled {
        true => "on",
        false => "off",
    };
    println!("{mode} mode, Secure Boot {secure_boot}");
    Ok(())
}

fn check(disk: &Memory) -> Result<()> {
    let mut damaged = 0;
    for (index, bytes) in disk.records() {
        match record::decode(bytes) {
            Ok(variable) => println!("record {index}: {}", variable.key),
            Err(error) => {
                damaged += 1;
                println!("record {index}: DAMAGED: {error}");
            }
        }
    }
    ensure!(damaged == 0, "{damaged} damaged records");
    service(disk.clone()).map(drop)
}

/// The variables that have a record and that a guest sees.
fn stored(service: &Service<Memory>) -> Result<Vec<Variable>> {
    service
        .storage()
        .records()
        .values()
        .map(|bytes| Ok(record::decode(bytes)?))
        .filter(|variable| {
            variable
                .as_ref()
                .is_ok_and(|variable| variable.key.guid != uefivars::guids::SERVICE)
        })
        .collect()
}

fn export(disk: Memory, format: Format, file: &std::path::Path) -> Result<()> {
    let service = service(disk)?;
    let variables = stored(&service)?;
    let bytes = match format {
        Format::Json => json::export(variables.iter()).into_bytes(),
        Format::Fd => fd::export(variables.iter())?,
    };
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

impl Chosen {
    /// The values of the Secure Boot variables that were chosen.
    fn read(&self) -> Result<microsoft::Set> {
        let mut set = match self.microsoft {
            true => microsoft::set()?,
            false => microsoft::Set::default(),
        };
        if let Some(pk) = &self.pk {
            set.pk = keys::lists(std::slice::from_ref(pk), self.owner)?;
        }
        for (value, files) in [
            (&mut set.kek, &self.kek),
            (&mut set.db, &self.db),
            (&mut set.dbx, &self.dbx),
        ] {
            value.extend(keys::lists(files, self.owner)?);
        }
        ensure!(
            !set.pk.is_empty() && !set.kek.is_empty(),
            "PK and KEK are needed: --pk and --kek, or --microsoft"
        );
        Ok(set)
    }
}

fn enroll(disk: Memory, chosen: &Chosen) -> Result<Memory> {
    let set = chosen.read()?;
    let mut service = service(disk)?;
    match service.enroll(&set.initial()) {
        Ok(Enrolled::Yes) => {
            println!("enrolled; Secure Boot is on in the next boot");
            Ok(service.into_storage())
        }
        Ok(Enrolled::KeysPresent) => bail!("there are keys already; nothing was changed"),
        Err(status) => bail!("the keys were not accepted: {status}"),
    }
}

fn import(disk: &mut Memory, file: &std::path::Path) -> Result<()> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let service = service(disk.clone())?;
    let mut next = disk
        .records()
        .keys()
        .max()
        .map_or(Some(1), |last| last.checked_add(1));
    let mut changes = Vec::new();
    for variable in json::import(&text)? {
        if service.get(&variable.key).is_ok() {
            println!("{}: there already, left as it is", variable.key);
            continue;
        }
        let bytes = record::encode(&variable)?;
        if let Err(error) = record::decode(&bytes) {
            println!("{}: left out: {error}", variable.key);
            continue;
        }
        let index = next.context("no record numbers left")?;
        next = index.checked_add(1);
        println!("{}: added", variable.key);
        changes.push((index, bytes));
    }
    let changes: Vec<_> = changes
        .iter()
        .map(|(index, bytes)| Change::Put {
            index: *index,
            bytes,
        })
        .collect();
    disk.commit(&changes)?;
    // What does not load is not written.
    self::service(disk.clone()).map(drop)
}
