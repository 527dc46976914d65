//! What a server for one volume was told at start, and the values that appear on the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::volume::{self, Volume};

/// Shortest secret that the SVSM accepts as a CocoonFs root key, in bytes.
pub const SVSM_MIN_SECRET: usize = 32;

/// Longest secret that is served, in bytes.
pub const MAX_SECRET: usize = 4096;

/// Why a command-line value was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ValueError {
    /// A character outside `0-9a-fA-F`, or an odd number of digits.
    #[error("not hexadecimal: give an even number of digits 0-9, a-f or A-F")]
    NotHex,
    /// A launch measurement of another size than a SHA-384 digest.
    #[error(
        "a launch measurement has 96 hex digits (48 bytes), not {0}: print it with igvmmeasure"
    )]
    MeasurementLength(usize),
    /// An empty secret.
    #[error("the secret is empty: give at least {SVSM_MIN_SECRET} bytes in hex")]
    EmptySecret,
    /// A secret above [`MAX_SECRET`].
    #[error("the secret has {0} bytes, at most {MAX_SECRET} are served")]
    SecretTooLong(usize),
}

/// A launch measurement: the SHA-384 launch digest (AMD SEV-SNP ABI, section 8.17.2), 48 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Measurement(pub [u8; Self::SIZE]);

impl Measurement {
    /// Size in bytes.
    pub const SIZE: usize = 48;
}

impl FromStr for Measurement {
    type Err = ValueError;

    /// Reads 96 hex digits in either case.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() != 2 * Self::SIZE {
            return Err(ValueError::MeasurementLength(text.chars().count()));
        }
        let mut digest = [0; Self::SIZE];
        hex::decode_to_slice(text, &mut digest).map_err(|_| ValueError::NotHex)?;
        Ok(Self(digest))
    }
}

impl TryFrom<String> for Measurement {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Measurement> for String {
    fn from(measurement: Measurement) -> Self {
        measurement.to_string()
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The secret that is released. Overwritten when dropped, never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes `bytes` as they are; 1 to [`MAX_SECRET`] of them.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ValueError> {
        let bytes = Zeroizing::new(bytes);
        match bytes.len() {
            0 => Err(ValueError::EmptySecret),
            n if n > MAX_SECRET => Err(ValueError::SecretTooLong(n)),
            _ => Ok(Self(bytes)),
        }
    }

    /// The secret itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// In constant time for secrets of the same length.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl FromStr for Secret {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() > 2 * MAX_SECRET {
            return Err(ValueError::SecretTooLong(text.len() / 2));
        }
        Self::new(hex::decode(text).map_err(|_| ValueError::NotHex)?)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes, redacted)", self.0.len())
    }
}

/// Which evidence earns the secret of the one volume.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The only launch measurement that is accepted; `None` accepts every one.
    pub measurement: Option<Measurement>,
    /// Accept `sample` evidence, which anyone can make up.
    pub allow_sample: bool,
}

/// One volume, [`volume::DEFAULT_NAME`], without a ledger.
#[derive(Clone, Debug)]
pub struct Config {
    /// What must be shown.
    pub policy: Policy,
    /// What is given for it.
    pub secret: Secret,
}

impl Config {
    /// The volume as the server keeps it: without a ledger, so it may always be formatted.
    pub fn volume(&self) -> Volume {
        Volume {
            allow_format: true,
            ..Volume::new(volume::Policy {
                measurements: self.policy.measurement.into_iter().collect(),
                allow_sample: self.policy.allow_sample,
                ..volume::Policy::default()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurement_is_read_in_either_case_and_printed_in_lower() {
        let upper = "AB".repeat(48);
        let m: Measurement = upper.parse().unwrap();
        assert_eq!(m.0, [0xab; 48]);
        assert_eq!(m.to_string(), upper.to_lowercase());
    }

    #[test]
    fn measurement_of_another_size_is_refused() {
        for digits in [0, 2, 95, 97, 128] {
            assert_eq!(
                "a".repeat(digits).parse::<Measurement>(),
                Err(ValueError::MeasurementLength(digits))
            );
        }
        assert_eq!(
            "zz".repeat(48).parse::<Measurement>(),
            Err(ValueError::NotHex)
        );
    }

    #[test]
    fn secret_must_be_hex_and_within_bounds() {
        assert_eq!("".parse::<Secret>().unwrap_err(), ValueError::EmptySecret);
        assert_eq!("abc".parse::<Secret>().unwrap_err(), ValueError::NotHex);
        assert_eq!("0x11".parse::<Secret>().unwrap_err(), ValueError::NotHex);
        let long = "00".repeat(MAX_SECRET + 1);
        assert!(matches!(
            long.parse::<Secret>(),
            Err(ValueError::SecretTooLong(_))
        ));
        assert_eq!("00fF".parse::<Secret>().unwrap().as_bytes(), [0, 0xff]);
    }

    #[test]
    fn debug_output_does_not_contain_the_secret() {
        let config = Config {
            policy: Policy::default(),
            secret: "5ec2e7".parse().unwrap(),
        };
        let text = format!("{config:?}");
        assert!(text.contains("redacted") && !text.contains("5ec2e7") && !text.contains("94"));
    }
}
