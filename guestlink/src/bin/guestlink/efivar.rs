//! `guestlink efivar`: what its subcommands do.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use uefivars::host::{fd, json, replay};
use uefivars::variable::Key;
use uefivars::{Attributes, EfiTime, guids};

use crate::cli::{self, EfivarCommand, ExportFormat};
use crate::svsm::Link;
use guestlink::variables::{self, Communicate, Variable};

/// Runs one subcommand.
pub fn run(link: &mut Link, command: &EfivarCommand) -> Result<()> {
    match command {
        EfivarCommand::List { json } => list(link, *json),
        EfivarCommand::Get { name, json, output } => {
            let variable = variables::get(link, name.guid, &name.name)?;
            match output {
                Some(path) => cli::write(path, &variable.data),
                None if *json => print_json(&Shown::from(&variable)),
                None => {
                    println!("{}", hex::encode(&variable.data));
                    Ok(())
                }
            }
        }
        EfivarCommand::Set {
            name,
            value,
            attributes,
        } => {
            let data = value.bytes()?;
            ensure!(!data.is_empty(), "an empty value would remove the variable");
            Ok(variables::set(
                link,
                name.guid,
                &name.name,
                *attributes,
                &data,
            )?)
        }
        EfivarCommand::Append {
            name,
            value,
            attributes,
        } => {
            let attributes = attributes | Attributes::APPEND_WRITE.0;
            let data = value.bytes()?;
            Ok(variables::set(
                link, name.guid, &name.name, attributes, &data,
            )?)
        }
        // A removal names no attributes: whatever the variable has.
        EfivarCommand::Delete { name } => Ok(variables::set(link, name.guid, &name.name, 0, &[])?),
        EfivarCommand::Authset {
            name,
            file,
            append,
            attributes,
        } => {
            let append = if *append {
                Attributes::APPEND_WRITE.0
            } else {
                0
            };
            let data = cli::read(file)?;
            let attributes = attributes | append;
            Ok(variables::set(
                link, name.guid, &name.name, attributes, &data,
            )?)
        }
        EfivarCommand::BootReplay { file, verbose } => boot_replay(link, file, *verbose),
        EfivarCommand::Export { format, output } => export(link, *format, output),
    }
}

/// A variable as JSON.
#[derive(Serialize)]
struct Shown {
    guid: String,
    name: String,
    attr: u32,
    data: String,
}

impl From<&Variable> for Shown {
    fn from(variable: &Variable) -> Self {
        Self {
            guid: variable.guid.to_string(),
            name: variable.name.clone(),
            attr: variable.attributes.0,
            data: hex::encode(&variable.data),
        }
    }
}

fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn list(link: &mut Link, json: bool) -> Result<()> {
    let variables = variables::list(link)?;
    if json {
        return print_json(&variables.iter().map(Shown::from).collect::<Vec<_>>());
    }
    for variable in variables {
        let what = if variable.guid == guids::GLOBAL {
            String::new()
        } else {
            format!("  {}", variable.guid)
        };
        println!(
            "{:14} {:6} {}{what}",
            variable.attributes.to_string(),
            variable.data.len(),
            variable.name
        );
    }
    Ok(())
}

/// Sends a recorded boot. The answers of QEMU's implementation are in the recording; where
/// ours differ, a rule has to justify it.
fn boot_replay(link: &mut Link, file: &Path, verbose: bool) -> Result<()> {
    let steps = replay::read(&cli::read(file)?).with_context(|| file.display().to_string())?;
    let report = replay::replay(&steps, |buffer| {
        let mut answered = buffer.to_vec();
        link.communicate(&mut answered)?;
        ensure!(
            answered.len() == buffer.len(),
            "the reply has another size than the request"
        );
        buffer.copy_from_slice(&answered);
        anyhow::Ok(())
    })?;
    for difference in &report.differences {
        if verbose || difference.rule.is_none() {
            match difference.rule {
                Some(rule) => println!("call {}: {rule:?}", difference.call),
                None => println!("call {}: no rule for that", difference.call),
            }
        }
    }
    let unjustified = report.unjustified().count();
    println!(
        "{} calls, {} answers as recorded, {} differ by rule, {unjustified} without one",
        report.calls,
        report.same,
        report.differences.len() - unjustified
    );
    ensure!(unjustified == 0, "answers differ and no rule says why");
    Ok(())
}

fn export(link: &mut Link, format: ExportFormat, output: &Path) -> Result<()> {
    let stored = stored(&variables::list(link)?)?;
    let bytes = match format {
        ExportFormat::Json => json::export(stored.iter()).into_bytes(),
        ExportFormat::Fd => fd::export(stored.iter())?,
    };
    cli::write(output, &bytes)
}

/// The non-volatile variables. A guest cannot see time stamps, so all are zero.
fn stored(variables: &[Variable]) -> Result<Vec<uefivars::variable::Variable>> {
    variables
        .iter()
        .filter(|variable| variable.attributes.non_volatile())
        .map(|variable| {
            Ok(uefivars::variable::Variable {
                key: Key::new(variable.guid, &variable.name)?,
                attributes: variable.attributes,
                time: EfiTime::ZERO,
                data: variable.data.clone(),
                owner: None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_are_the_variables_that_last() {
        let variable = |name: &str, attributes| Variable {
            guid: guids::GLOBAL,
            name: name.to_owned(),
            attributes: Attributes(attributes),
            data: vec![1, 2],
        };
        let stored = stored(&[variable("Boot0001", 7), variable("BootCurrent", 6)]).unwrap();
        let again = json::import(&json::export(stored.iter())).unwrap();
        assert_eq!(again.len(), 1);
        assert!(again[0].key.is(guids::GLOBAL, "Boot0001"));
        assert_eq!(again[0].data, [1, 2]);
        assert_eq!(fd::export(stored.iter()).unwrap().len(), fd::SIZE);
    }
}
