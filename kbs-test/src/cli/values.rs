//! Values of the command line that several commands share.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::Args;
use getrandom::SysRng;
use rand_core::TryRng;
use zeroize::Zeroizing;

use crate::claims::Tcb;
use crate::config::{MAX_SECRET, SVSM_MIN_SECRET, Secret};

/// The value of `--secret`, not yet read: the command-line parser repeats what it cannot read in its
/// message, and this value must not appear in one.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    pub(super) fn read(&self) -> Result<Secret> {
        self.0.parse().context("cannot use --secret")
    }
}

impl FromStr for SecretText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// Where a secret comes from.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct SecretSource {
    /// Take the secret from FILE: its bytes as they are, 1 to 4096 of them.
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,

    /// Make a random secret of 32 bytes, which nobody gets to see.
    #[arg(long)]
    pub generate_secret: bool,

    /// The secret in hex. Other users of this machine can see it in the process list.
    #[arg(long, value_name = "HEX")]
    pub secret: Option<SecretText>,
}

impl SecretSource {
    /// The secret, if one of the options is there.
    pub(super) fn read(&self) -> Result<Option<Secret>> {
        if let Some(path) = &self.secret_file {
            return Ok(Some(secret_file(path)?));
        }
        if self.generate_secret {
            let mut bytes = Zeroizing::new(vec![0; SVSM_MIN_SECRET]);
            SysRng
                .try_fill_bytes(&mut bytes)
                .context("the random source of the operating system failed")?;
            return Ok(Some(Secret::new(bytes.to_vec())?));
        }
        self.secret.as_ref().map(SecretText::read).transpose()
    }
}

fn secret_file(path: &std::path::Path) -> Result<Secret> {
    use std::io::Read;
    let name = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {name}"))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 1));
    file.take(MAX_SECRET as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    Secret::new(bytes.to_vec()).with_context(|| format!("cannot use {name}"))
}

/// A floor for the platform's firmware, as in `bootloader=3,snp=8,microcode=115`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcbText(pub Tcb);

impl FromStr for TcbText {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut tcb = Tcb::default();
        for pair in text.split(',') {
            let (name, value) = pair.split_once('=').context("give NAME=NUMBER,...")?;
            let part = match name.trim() {
                "fmc" => &mut tcb.fmc,
                "bootloader" => &mut tcb.bootloader,
                "tee" => &mut tcb.tee,
                "snp" => &mut tcb.snp,
                "microcode" => &mut tcb.microcode,
                other => bail!("{other:?} is none of fmc, bootloader, tee, snp, microcode"),
            };
            *part = value
                .trim()
                .parse()
                .with_context(|| format!("{value:?} is not a number from 0 to 255"))?;
        }
        Ok(Self(tcb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcb_floor_is_read_by_name() {
        let tcb = "bootloader=3, snp=8,microcode=115"
            .parse::<TcbText>()
            .unwrap()
            .0;
        assert_eq!(
            (tcb.bootloader, tcb.snp, tcb.microcode, tcb.tee),
            (3, 8, 115, 0)
        );
        for bad in ["", "snp", "snp=256", "snp=-1", "smp=1"] {
            assert!(bad.parse::<TcbText>().is_err(), "{bad}");
        }
    }

    #[test]
    fn secret_file_is_taken_as_it_is_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, [7; 33]).unwrap();
        assert_eq!(secret_file(&path).unwrap().as_bytes(), [7; 33]);
        std::fs::write(&path, vec![7; MAX_SECRET + 1]).unwrap();
        assert!(secret_file(&path).is_err());
        std::fs::write(&path, []).unwrap();
        assert!(secret_file(&path).is_err());
    }
}
