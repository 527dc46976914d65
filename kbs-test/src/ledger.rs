//! The rules of the ledger: which report of an SVSM is recorded, and what is answered.
//!
//! Always true: an epoch never goes down by a report; it goes up only by a session that was told the
//! epoch before it (so of two boots that were told the same, one is recorded); commits are recorded
//! only for the boot that was recorded last. Nothing here does input or output; the caller stores the
//! outcome before it answers.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha384;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::volume::{Identity, Ledger, LedgerMode, State, Volume, VolumeName};

/// Size of a message authentication code in bytes: HMAC-SHA-384.
pub const MAC: usize = 48;

/// Longest body of a report in bytes.
pub const MAX_BODY: usize = 4096;

const REPORT_LABEL: &[u8] = b"svsm report\0";
const ACK_LABEL: &[u8] = b"svsm ack\0";

/// The key that authenticates reports and acknowledgements of one boot; 32 bytes.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// Takes 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn mac(&self, label: &[u8], body: &[u8]) -> Option<Hmac<Sha384>> {
        let mut mac = Hmac::<Sha384>::new_from_slice(&self.0).ok()?;
        mac.update(label);
        mac.update(body);
        Some(mac)
    }

    /// Whether `mac` authenticates the report `body`; in constant time.
    pub fn verifies_report(&self, body: &[u8], mac: &[u8]) -> bool {
        self.mac(REPORT_LABEL, body)
            .is_some_and(|m| m.verify_slice(mac).is_ok())
    }

    /// Authenticates an acknowledgement.
    pub fn authenticate_ack(&self, body: &[u8]) -> Vec<u8> {
        self.mac(ACK_LABEL, body)
            .map(|m| m.finalize().into_bytes().to_vec())
            .unwrap_or_default()
    }

    /// Authenticates a report: the sender's side, for tests and tools.
    pub fn authenticate_report(&self, body: &[u8]) -> Vec<u8> {
        self.mac(REPORT_LABEL, body)
            .map(|m| m.finalize().into_bytes().to_vec())
            .unwrap_or_default()
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(redacted)")
    }
}

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The disk was opened and a new epoch is on it.
    Open,
    /// The disk was changed.
    Commit,
}

/// A report as it came, authenticated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Number of the report in its boot, from 1.
    pub seq: u64,
    /// Which disk; in standard base64.
    #[serde(with = "identity_base64")]
    pub identity: Identity,
    /// Whether a disk exists; always.
    pub state: State,
    /// Epoch on the disk.
    pub epoch: u64,
    /// Update counter of the disk.
    pub counter: u64,
    /// What happened.
    pub kind: Kind,
}

/// The identity as reports carry it.
mod identity_base64 {
    use super::Identity;
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(identity: &Identity, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64_STANDARD.encode(identity.0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Identity, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(D::Error::custom)?;
        let bytes = bytes.try_into();
        bytes
            .map(Identity)
            .map_err(|_| D::Error::custom("an identity has 32 bytes"))
    }
}

/// One boot that may report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSession {
    /// Which volume was released to it.
    pub volume: VolumeName,
    /// Number of the session, for messages.
    pub number: u64,
    /// When it began, in seconds since 1970.
    pub since: u64,
    /// Authenticates its reports.
    pub key: SessionKey,
    /// The epoch it was told.
    pub told_epoch: u64,
    /// The epoch it has set, once its open was recorded.
    pub own_epoch: Option<u64>,
    /// The last report that was recorded.
    pub last: Option<Last>,
}

/// The last report of a session, so that a repetition gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Its number.
    pub seq: u64,
    /// Its body, as it came.
    pub body: String,
    /// The answer's body, as it went.
    pub ack: String,
}

/// Why a report is not recorded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The volume keeps no ledger (any more).
    #[error("this volume keeps no ledger")]
    Off,
    /// An older report again, or another one under the number of the last.
    #[error("report {seq} of this boot comes after report {last}")]
    Order {
        /// Its number.
        seq: u64,
        /// The number of the last one recorded.
        last: u64,
    },
    /// Reports are about disks that exist.
    #[error("a report says that the volume is not formatted")]
    NotFormatted,
    /// Another boot was recorded since this one was told the epoch.
    #[error(
        "a newer boot of this volume has reported: its epoch is {stored}, this boot was told {told}"
    )]
    Overtaken {
        /// Epoch in the ledger.
        stored: u64,
        /// Epoch that this session was told.
        told: u64,
    },
    /// A disk other than the one in the ledger.
    #[error("the volume's disk is {stored}, the report is about {reported}")]
    Identity {
        /// In the ledger.
        stored: Identity,
        /// In the report.
        reported: Identity,
    },
    /// The epoch of an open is not a new one.
    #[error("the report's epoch {reported} is not above {stored}")]
    Epoch {
        /// In the ledger.
        stored: u64,
        /// In the report.
        reported: u64,
    },
    /// The disk is behind.
    #[error("the report's counter {reported} is below {stored}")]
    Counter {
        /// In the ledger.
        stored: u64,
        /// In the report.
        reported: u64,
    },
    /// A commit before an open.
    #[error("this boot reports a commit before it has reported its open")]
    NotOpen,
}

/// What `report` makes of the ledger of `volume`, if it may be recorded.
///
/// `session` is the one that sent it; its own `last` is left to the caller.
pub fn record(
    volume: &Volume,
    session: &ReportSession,
    report: &Report,
) -> Result<Ledger, Refusal> {
    let stored = volume.ledger;
    if volume.mode == LedgerMode::Off {
        return Err(Refusal::Off);
    }
    if let Some(last) = session.last.as_ref().filter(|last| report.seq <= last.seq) {
        return Err(Refusal::Order {
            seq: report.seq,
            last: last.seq,
        });
    }
    if report.state != State::Formatted {
        return Err(Refusal::NotFormatted);
    }
    match report.kind {
        Kind::Open => {
            if stored.epoch != session.told_epoch {
                return Err(Refusal::Overtaken {
                    stored: stored.epoch,
                    told: session.told_epoch,
                });
            }
            if report.epoch <= stored.epoch {
                return Err(Refusal::Epoch {
                    stored: stored.epoch,
                    reported: report.epoch,
                });
            }
        }
        Kind::Commit => {
            let own = session.own_epoch.ok_or(Refusal::NotOpen)?;
            if own != stored.epoch || report.epoch != own {
                return Err(Refusal::Overtaken {
                    stored: stored.epoch,
                    told: own,
                });
            }
        }
    }
    // A volume that may be formatted at any time changes its disk and its counter at an open.
    let same_disk = !(volume.allow_format && report.kind == Kind::Open);
    if let Some(identity) = stored.identity
        && same_disk
        && identity != report.identity
    {
        return Err(Refusal::Identity {
            stored: identity,
            reported: report.identity,
        });
    }
    if same_disk && report.counter < stored.counter {
        return Err(Refusal::Counter {
            stored: stored.counter,
            reported: report.counter,
        });
    }
    Ok(Ledger {
        state: State::Formatted,
        identity: Some(report.identity),
        epoch: report.epoch,
        counter: report.counter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Policy;
    use proptest::prelude::*;

    const DISK: Identity = Identity([1; 32]);
    const OTHER_DISK: Identity = Identity([2; 32]);

    fn volume(mode: LedgerMode) -> Volume {
        Volume {
            mode,
            ..Volume::new(Policy::default())
        }
    }

    fn session(told_epoch: u64) -> ReportSession {
        ReportSession {
            volume: "a/b/c".parse().unwrap(),
            number: 1,
            since: 0,
            key: SessionKey::new([3; 32]),
            told_epoch,
            own_epoch: None,
            last: None,
        }
    }

    fn open(seq: u64, epoch: u64, counter: u64) -> Report {
        Report {
            seq,
            identity: DISK,
            state: State::Formatted,
            epoch,
            counter,
            kind: Kind::Open,
        }
    }

    fn commit(seq: u64, epoch: u64, counter: u64) -> Report {
        Report {
            kind: Kind::Commit,
            ..open(seq, epoch, counter)
        }
    }

    /// Records and keeps what the server keeps.
    fn apply(
        volume: &mut Volume,
        session: &mut ReportSession,
        report: &Report,
    ) -> Result<(), Refusal> {
        volume.ledger = record(volume, session, report)?;
        if report.kind == Kind::Open {
            session.own_epoch = Some(report.epoch);
        }
        session.last = Some(Last {
            seq: report.seq,
            body: String::new(),
            ack: String::new(),
        });
        Ok(())
    }

    /// A volume on which the boot of `epoch` is recorded, and that boot.
    fn running(epoch: u64, counter: u64) -> (Volume, ReportSession) {
        let (mut v, mut s) = (volume(LedgerMode::Commit), session(0));
        apply(&mut v, &mut s, &open(1, epoch, counter)).unwrap();
        (v, s)
    }

    #[test]
    fn first_open_names_the_disk() {
        let (v, _) = running(1, 5);
        let ledger = Ledger {
            state: State::Formatted,
            identity: Some(DISK),
            epoch: 1,
            counter: 5,
        };
        assert_eq!(v.ledger, ledger);
    }

    #[test]
    fn of_two_boots_that_were_told_the_same_one_is_recorded() {
        let (mut v, _) = running(4, 5);
        let (mut one, mut two) = (session(4), session(4));
        apply(&mut v, &mut one, &open(1, 5, 6)).unwrap();
        for epoch in [5, 6, u64::MAX] {
            let e = apply(&mut v, &mut two, &open(1, epoch, 9)).unwrap_err();
            assert_eq!(e, Refusal::Overtaken { stored: 5, told: 4 });
        }
    }

    #[test]
    fn commits_count_for_the_last_boot_only() {
        let (mut v, mut first) = running(4, 5);
        apply(&mut v, &mut first, &commit(2, 4, 6)).unwrap();
        assert_eq!(v.ledger.counter, 6);
        let mut second = session(4);
        let e = apply(&mut v, &mut second, &commit(1, 4, 7)).unwrap_err();
        assert_eq!(e, Refusal::NotOpen);
        apply(&mut v, &mut second, &open(1, 5, 7)).unwrap();
        let e = apply(&mut v, &mut first, &commit(3, 4, 8)).unwrap_err();
        assert_eq!(e, Refusal::Overtaken { stored: 5, told: 4 });
        let e = apply(&mut v, &mut first, &commit(3, 5, 8)).unwrap_err();
        assert_eq!(e, Refusal::Overtaken { stored: 5, told: 4 });
        apply(&mut v, &mut second, &commit(2, 5, 8)).unwrap();
    }

    #[test]
    fn epoch_must_grow_and_counter_must_not_shrink() {
        let (mut v, mut s) = running(4, 5);
        let mut next = session(4);
        for epoch in [0, 3, 4] {
            let e = apply(&mut v, &mut next, &open(1, epoch, 6)).unwrap_err();
            assert_eq!(
                e,
                Refusal::Epoch {
                    stored: 4,
                    reported: epoch
                }
            );
        }
        let behind = Refusal::Counter {
            stored: 5,
            reported: 4,
        };
        let e = apply(&mut v, &mut next, &open(1, 5, 4)).unwrap_err();
        assert_eq!(e, behind);
        let e = apply(&mut v, &mut s, &commit(2, 4, 4)).unwrap_err();
        assert_eq!(e, behind);
    }

    #[test]
    fn other_disk_is_refused() {
        let (mut v, mut s) = running(4, 5);
        let e = |report: &Report, v: &mut Volume, s: &mut ReportSession| {
            apply(v, s, report).unwrap_err()
        };
        let refused = Refusal::Identity {
            stored: DISK,
            reported: OTHER_DISK,
        };
        let stolen = Report {
            identity: OTHER_DISK,
            ..commit(2, 4, 6)
        };
        assert_eq!(e(&stolen, &mut v, &mut s), refused);
        let stolen = Report {
            identity: OTHER_DISK,
            ..open(1, 5, 6)
        };
        assert_eq!(e(&stolen, &mut v, &mut session(4)), refused);
    }

    #[test]
    fn volume_that_may_be_formatted_takes_a_new_disk_at_open() {
        let (mut v, _) = running(4, 500);
        v.allow_format = true;
        let mut s = session(4);
        let fresh = Report {
            identity: OTHER_DISK,
            ..open(1, 5, 1)
        };
        apply(&mut v, &mut s, &fresh).unwrap();
        assert_eq!(v.ledger.identity, Some(OTHER_DISK));
        assert_eq!((v.ledger.epoch, v.ledger.counter), (5, 1));
        let e = apply(&mut v, &mut s, &commit(2, 5, 2)).unwrap_err();
        assert!(matches!(e, Refusal::Identity { .. }));
    }

    #[test]
    fn reports_keep_their_order() {
        let (mut v, mut s) = running(4, 5);
        apply(&mut v, &mut s, &commit(7, 4, 6)).unwrap();
        for seq in [0, 1, 7] {
            let e = apply(&mut v, &mut s, &commit(seq, 4, 9)).unwrap_err();
            assert_eq!(e, Refusal::Order { seq, last: 7 });
        }
    }

    #[test]
    fn nothing_is_recorded_without_a_ledger_or_a_disk() {
        let mut v = volume(LedgerMode::Off);
        let e = apply(&mut v, &mut session(0), &open(1, 1, 1)).unwrap_err();
        assert_eq!(e, Refusal::Off);
        v.mode = LedgerMode::Boot;
        let unformatted = Report {
            state: State::New,
            ..open(1, 1, 1)
        };
        let e = apply(&mut v, &mut session(0), &unformatted).unwrap_err();
        assert_eq!(e, Refusal::NotFormatted);
    }

    #[test]
    fn codes_of_reports_and_acknowledgements_differ() {
        let key = SessionKey::new([3; 32]);
        let report = key.authenticate_report(b"body");
        assert_eq!(report.len(), MAC);
        assert!(key.verifies_report(b"body", &report));
        assert!(!key.verifies_report(b"bodz", &report));
        assert!(!key.verifies_report(b"body", &report[..47]));
        assert!(!key.verifies_report(b"body", &key.authenticate_ack(b"body")));
        assert!(!SessionKey::new([4; 32]).verifies_report(b"body", &report));
        assert_eq!(format!("{key:?}"), "SessionKey(redacted)");
    }

    #[test]
    fn report_is_read_from_its_documented_form() {
        let text = r#"{"seq":1,"identity":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
            "state":"formatted","epoch":2,"counter":3,"kind":"open"}"#;
        assert_eq!(serde_json::from_str::<Report>(text).unwrap(), open(1, 2, 3));
        for bad in [
            text.replace("AQEB", "AQ=="),
            text.replace("\"open\"", "\"close\""),
            text.replace(":2,", ":-2,"),
            text.replace(":2,", ":18446744073709551616,"),
            text.replace(":2,", ":2.5,"),
        ] {
            assert!(serde_json::from_str::<Report>(&bad).is_err(), "{bad}");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A boot is told the ledger as it is.
        Attest,
        /// Some boot, by number, sends a report, by how much its numbers are off.
        Report {
            boot: usize,
            kind: Kind,
            disk: bool,
            epoch: i64,
            counter: i64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Attest),
            (0..6usize, any::<bool>(), any::<bool>(), -2..4i64, -2..4i64).prop_map(
                |(boot, open, disk, epoch, counter)| Step::Report {
                    boot,
                    kind: if open { Kind::Open } else { Kind::Commit },
                    disk,
                    epoch,
                    counter,
                }
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever boots report, and in whatever order: history is one line.
        #[test]
        fn history_is_linear(steps in proptest::collection::vec(step(), 1..40)) {
            let mut volume = volume(LedgerMode::Commit);
            let mut boots: Vec<ReportSession> = Vec::new();
            let mut opened_by: Vec<usize> = Vec::new();
            for step in steps {
                match step {
                    Step::Attest => boots.push(session(volume.told().epoch)),
                    Step::Report { boot, kind, disk, epoch, counter } => {
                        let Some(sender) = boots.get_mut(boot) else { continue };
                        let before = volume.ledger;
                        let report = Report {
                            seq: sender.last.as_ref().map_or(1, |l| l.seq + 1),
                            identity: if disk { DISK } else { OTHER_DISK },
                            state: State::Formatted,
                            epoch: before.epoch.saturating_add_signed(epoch),
                            counter: before.counter.saturating_add_signed(counter),
                            kind,
                        };
                        let told = sender.told_epoch;
                        if apply(&mut volume, sender, &report).is_err() {
                            prop_assert_eq!(volume.ledger, before);
                            continue;
                        }
                        prop_assert!(volume.ledger.counter >= before.counter);
                        prop_assert!(before.identity.is_none_or(|i| volume.ledger.identity == Some(i)));
                        match kind {
                            Kind::Open => {
                                // It knew the latest state, and its epoch is new.
                                prop_assert_eq!(told, before.epoch);
                                prop_assert!(volume.ledger.epoch > before.epoch);
                                opened_by.push(boot);
                            }
                            Kind::Commit => {
                                prop_assert_eq!(volume.ledger.epoch, before.epoch);
                                prop_assert_eq!(opened_by.last(), Some(&boot));
                            }
                        }
                    }
                }
            }
            // No boot was recorded twice.
            let mut unique = opened_by.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), opened_by.len());
        }
    }
}
