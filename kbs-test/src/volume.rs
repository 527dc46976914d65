//! A volume: what is released under one name, to whom, and what is known of its disk.
//!
//! A name is a resource path of the KBS protocol, `repository/type/tag`. The secret is not part of
//! [`Volume`], so that nothing that lists or logs volumes can print it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::claims::{Claims, SnpClaims, Tcb};
use crate::config::Measurement;

/// The volume that a server without a database serves, and that `aproxy` asks for by default.
pub const DEFAULT_NAME: &str = "default/sample/test";

/// Longest name in bytes.
pub const MAX_NAME: usize = 192;

/// Why a text is no volume name.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// Not three parts.
    #[error("a volume name has three parts, as in default/sample/test")]
    Parts,
    /// An empty part, a part that begins with a dot, or another character.
    #[error(
        "a part of a volume name is made of A-Z a-z 0-9 _ - and . and does not begin with a dot"
    )]
    Character,
    /// Longer than [`MAX_NAME`].
    #[error("a volume name has at most {MAX_NAME} characters")]
    TooLong,
}

/// The name of a volume: `repository/type/tag`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

impl Default for VolumeName {
    /// [`DEFAULT_NAME`].
    fn default() -> Self {
        Self(DEFAULT_NAME.to_owned())
    }
}

impl VolumeName {
    /// The name as it stands in the resource path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        if text.split('/').count() != 3 {
            return Err(NameError::Parts);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let valid =
            |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed);
        match text.split('/').all(valid) {
            true => Ok(Self(text.to_owned())),
            false => Err(NameError::Character),
        }
    }
}

impl TryFrom<String> for VolumeName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identity of a formatted disk: 32 random bytes that the SVSM chose when it formatted it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity(pub [u8; 32]);

impl FromStr for Identity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| "an identity has 64 hex digits (32 bytes)")?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Identity {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.to_string()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the SVSM reports about a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LedgerMode {
    /// Nothing: a rolled back disk is not noticed.
    #[default]
    Off,
    /// Every boot: a disk that is behind by a boot is refused.
    Boot,
    /// Every boot and every commit; a commit is answered before its report is acknowledged.
    Commit,
    /// Every boot and every commit; a commit is answered when its report is acknowledged.
    Strict,
}

impl LedgerMode {
    /// The word in the protocol and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Boot => "boot",
            Self::Commit => "commit",
            Self::Strict => "strict",
        }
    }
}

/// Whether a disk of this volume exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not yet: the SVSM may format one.
    #[default]
    New,
    /// Yes: formatting would lose it.
    Formatted,
}

impl State {
    /// The word in the protocol and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Formatted => "formatted",
        }
    }
}

/// What the server knows of the disk of a volume, as told to the SVSM at boot and reported by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Whether a disk exists.
    pub state: State,
    /// Which one; `None` until the first report.
    pub identity: Option<Identity>,
    /// Grows with every boot.
    pub epoch: u64,
    /// Update counter of the last report; grows with every commit.
    pub counter: u64,
}

/// Which evidence earns the secret of a volume.
///
/// A debug policy, a VMPL other than 0 and a migration agent are refused whatever stands here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The launch measurements that are accepted; empty accepts every one.
    pub measurements: Vec<Measurement>,
    /// Accept `sample` evidence, which anyone can make up.
    pub allow_sample: bool,
    /// Lowest security version of each part of the platform's firmware.
    pub min_tcb: Tcb,
    /// Refuse guests whose policy allows simultaneous multi-threading on the host.
    pub forbid_smt: bool,
}

/// Why evidence that is genuine as far as it can be told does not earn the secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// `sample` evidence for a volume that does not allow it.
    #[error(
        "sample evidence proves nothing and is not allowed: start kbs-test with --allow-sample, or \
         register the volume with it"
    )]
    SampleNotAllowed,
    /// Another program was launched.
    #[error("launch measurement not as expected")]
    Measurement {
        /// What the policy lists.
        expected: Vec<Measurement>,
        /// What the evidence says, if it says anything.
        found: Option<Measurement>,
    },
    /// Firmware older than the policy's floor.
    #[error("the platform's {part} has security version {found}, at least {floor} is required")]
    Tcb {
        /// Which part of the firmware.
        part: &'static str,
        /// What the policy says.
        floor: u8,
        /// What the report says.
        found: u8,
    },
    /// The guest policy allows SMT.
    #[error("the guest policy allows SMT, which this volume forbids")]
    Smt,
}

impl PolicyError {
    /// The documented three lines about a measurement that does not match. Where several are
    /// accepted, the first stands for them.
    pub(crate) fn measurement_lines(&self) -> Option<String> {
        let Self::Measurement { expected, found } = self else {
            return None;
        };
        let found = found.map_or_else(|| "none".to_owned(), |m| m.to_string());
        let expected: Vec<_> = expected.iter().map(|m| format!("\"{m}\"")).collect();
        Some(format!(
            "{self}\nexpected:{}\nfound:\"{found}\"",
            expected.join(",")
        ))
    }
}

impl Policy {
    /// Whether `claims` earn the secret.
    pub fn appraise(&self, claims: &Claims) -> Result<(), PolicyError> {
        match &claims.snp {
            None if !self.allow_sample => return Err(PolicyError::SampleNotAllowed),
            None => {}
            Some(snp) => self.appraise_snp(snp)?,
        }
        let accepted = self.measurements.is_empty()
            || claims
                .measurement
                .is_some_and(|found| self.measurements.contains(&found));
        match accepted {
            true => Ok(()),
            false => Err(PolicyError::Measurement {
                expected: self.measurements.clone(),
                found: claims.measurement,
            }),
        }
    }

    fn appraise_snp(&self, snp: &SnpClaims) -> Result<(), PolicyError> {
        if self.forbid_smt && snp.policy_allows_smt {
            return Err(PolicyError::Smt);
        }
        for ((part, found), (_, floor)) in snp.tcb.parts().into_iter().zip(self.min_tcb.parts()) {
            if found < floor {
                return Err(PolicyError::Tcb { part, floor, found });
            }
        }
        Ok(())
    }
}

/// Everything about a volume but its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Which evidence earns the secret.
    pub policy: Policy,
    /// Generation of the secret, from 1; grows when the secret is replaced.
    pub generation: u64,
    /// What the SVSM reports.
    pub mode: LedgerMode,
    /// The SVSM may format a disk at any time, whatever was reported.
    pub allow_format: bool,
    /// Clone protection: one release for each priming.
    pub prime: bool,
    /// A priming is waiting to be used.
    pub primed: bool,
    /// What is known of the disk.
    pub ledger: Ledger,
    /// Number of releases so far.
    pub releases: u64,
}

impl Volume {
    /// A new volume with this policy: no ledger, no priming.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            generation: 1,
            mode: LedgerMode::Off,
            allow_format: false,
            prime: false,
            primed: false,
            ledger: Ledger::default(),
            releases: 0,
        }
    }

    /// What the SVSM is told about its disk at boot. With [`Volume::allow_format`] that is a new
    /// volume every time; its epochs grow all the same.
    pub fn told(&self) -> Ledger {
        match self.allow_format {
            true => Ledger {
                epoch: self.ledger.epoch,
                ..Ledger::default()
            },
            false => self.ledger,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resource_paths() {
        assert_eq!(DEFAULT_NAME.parse(), Ok(VolumeName::default()));
        for good in ["a/b/c", "A.b-c_9/x/y..z"] {
            assert_eq!(good.parse::<VolumeName>().unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", NameError::Parts),
            ("a/b", NameError::Parts),
            ("a/b/c/d", NameError::Parts),
            ("a//c", NameError::Character),
            ("a/.b/c", NameError::Character),
            ("a/b/..", NameError::Character),
            ("a/b/c ", NameError::Character),
            ("a/b/\u{e9}", NameError::Character),
            ("a/b/c\n", NameError::Character),
        ] {
            assert_eq!(bad.parse::<VolumeName>(), Err(why), "{bad:?}");
        }
        let long = format!("a/b/{}", "c".repeat(MAX_NAME));
        assert_eq!(long.parse::<VolumeName>(), Err(NameError::TooLong));
        assert!(serde_json::from_str::<VolumeName>("\"a/b\"").is_err());
    }

    fn sample(measurement: Option<u8>) -> Claims {
        Claims::sample(measurement.map(|b| Measurement([b; 48])), [0; 48])
    }

    fn snp() -> Claims {
        Claims {
            measurement: Some(Measurement([1; 48])),
            evidence_digest: [0; 48],
            snp: Some(SnpClaims {
                policy_allows_smt: true,
                tcb: Tcb {
                    fmc: 0,
                    bootloader: 3,
                    tee: 0,
                    snp: 8,
                    microcode: 115,
                },
                chip_id: [7; 64],
            }),
        }
    }

    fn only(byte: u8) -> Policy {
        Policy {
            measurements: vec![Measurement([byte; 48])],
            allow_sample: true,
            ..Policy::default()
        }
    }

    #[test]
    fn sample_needs_permission() {
        let e = Policy::default().appraise(&sample(None)).unwrap_err();
        assert_eq!(e, PolicyError::SampleNotAllowed);
        assert!(Policy::default().appraise(&snp()).is_ok());
    }

    #[test]
    fn one_of_several_measurements_is_enough() {
        let mut policy = only(1);
        assert!(policy.appraise(&sample(Some(1))).is_ok());
        assert!(policy.appraise(&sample(Some(2))).is_err());
        policy.measurements.push(Measurement([2; 48]));
        assert!(policy.appraise(&sample(Some(2))).is_ok());
        assert!(policy.appraise(&snp()).is_ok());
    }

    #[test]
    fn other_measurement_is_refused_and_both_are_shown() {
        let e = only(1).appraise(&sample(Some(2))).unwrap_err();
        let (expected, found) = ("01".repeat(48), "02".repeat(48));
        assert_eq!(
            e.measurement_lines().unwrap(),
            format!(
                "launch measurement not as expected\nexpected:\"{expected}\"\nfound:\"{found}\""
            )
        );
        let e = only(1).appraise(&sample(None)).unwrap_err();
        assert!(e.measurement_lines().unwrap().ends_with("found:\"none\""));
    }

    #[test]
    fn every_part_of_the_firmware_has_its_floor() {
        type Part = fn(&mut Tcb) -> &mut u8;
        let parts: [(&str, Part, u8); 4] = [
            ("boot loader", |t| &mut t.bootloader, 4),
            ("TEE", |t| &mut t.tee, 1),
            ("SNP firmware", |t| &mut t.snp, 9),
            ("microcode", |t| &mut t.microcode, 116),
        ];
        for (name, part, floor) in parts {
            let mut policy = Policy::default();
            *part(&mut policy.min_tcb) = floor - 1;
            assert!(policy.appraise(&snp()).is_ok(), "{name}");
            *part(&mut policy.min_tcb) = floor;
            let e = policy.appraise(&snp()).unwrap_err();
            assert!(e.to_string().contains(name), "{e}");
        }
    }

    #[test]
    fn smt_is_refused_where_forbidden() {
        let strict = Policy {
            forbid_smt: true,
            ..Policy::default()
        };
        assert_eq!(strict.appraise(&snp()), Err(PolicyError::Smt));
    }

    #[test]
    fn volume_that_may_be_formatted_is_always_new() {
        let mut volume = Volume::new(Policy::default());
        volume.ledger = Ledger {
            state: State::Formatted,
            identity: Some(Identity([1; 32])),
            epoch: 5,
            counter: 9,
        };
        assert_eq!(volume.told(), volume.ledger);
        volume.allow_format = true;
        assert_eq!(
            (volume.told().state, volume.told().identity),
            (State::New, None)
        );
        assert_eq!((volume.told().epoch, volume.told().counter), (5, 0));
    }

    #[test]
    fn stored_policy_with_unknown_members_is_refused() {
        let text = r#"{"measurements":[],"allow_sample":true,"something-new":1}"#;
        assert!(serde_json::from_str::<Policy>(text).is_err());
    }
}
