//! A boot that is cut off at any message, or whose server dies, locks nobody out and lets
//! nothing older in.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use e2e::Step::{Acknowledgement, Answer, Challenge, Evidence, Offer, Report};
use e2e::{Fate, Ledger, Mitm, Proxy, Step};

/// How long the SVSM waits for a proxy that is dead, in seconds.
const PATIENCE: u32 = 3;

/// A volume that was used in two boots, and the copy of it from between them: what must
/// not get in.
fn used(mode: &str) -> Result<(Ledger, std::path::PathBuf)> {
    let ledger = Ledger::start(mode, &[])?;
    ledger.guest().boot()?.assert_complete();
    let old = ledger.copy("old.img")?;
    ledger.guest().boot()?.assert_complete();
    Ok((ledger, old))
}

/// Boots behind a proxy that is killed when message `at` passes: the boot stops with
/// `error`. The next one works.
#[track_caller]
fn proxy_killed(ledger: &Ledger, at: Step, error: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let proxy = Proxy::start(dir.path(), ledger.url()?)?;
    let socket = proxy.socket().to_owned();
    let alive = Arc::new(Mutex::new(Some(proxy)));
    let victim = Arc::clone(&alive);
    let mitm = Mitm::start(&socket, move |step, _| {
        if step != at {
            return Fate::Pass;
        }
        victim.lock().unwrap_or_else(PoisonError::into_inner).take();
        Fate::Cut
    })?;
    let guest = ledger.guest().proxy(&mitm.socket()).patience(PATIENCE);
    let boot = guest.boot()?;
    boot.assert_stopped(error);
    let alive = alive.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(alive.is_none(), "{at:?} never passed:\n{}", boot.log());
    ledger.guest().boot()?.assert_complete();
    Ok(())
}

/// The disk `old` is refused.
#[track_caller]
fn stays_out(ledger: &Ledger, old: &Path) -> Result<()> {
    let boot = ledger.guest_on(old).boot()?;
    boot.assert_stopped("boots behind the ledger");
    Ok(())
}

#[test]
fn a_proxy_killed_at_any_message_of_the_exchange_locks_nobody_out() -> Result<()> {
    let (ledger, old) = used("boot")?;
    for (at, error) in [
        (Offer, "attestation failed: negotiation: no answer"),
        (Challenge, "attestation failed: negotiation: no answer"),
        (Evidence, "attestation failed: decision: no answer"),
        (Answer, "attestation failed: decision: no answer"),
    ] {
        proxy_killed(&ledger, at, error)?;
    }
    stays_out(&ledger, &old)
}

#[test]
fn a_proxy_killed_at_the_report_of_a_boot_locks_nobody_out() -> Result<()> {
    let (ledger, old) = used("boot")?;
    for at in [Report(1), Acknowledgement(1)] {
        proxy_killed(&ledger, at, "ledger: report to the server")?;
    }
    stays_out(&ledger, &old)
}

#[test]
fn a_proxy_killed_at_the_report_of_a_commit_locks_nobody_out() -> Result<()> {
    let (ledger, old) = used("strict")?;
    for at in [Report(2), Acknowledgement(2)] {
        proxy_killed(&ledger, at, "ledger: report to the server")?;
    }
    stays_out(&ledger, &old)
}

#[test]
fn a_proxy_killed_while_commits_are_reported_aside_stops_nothing() -> Result<()> {
    let (ledger, old) = used("commit")?;
    let mitm = Mitm::start(ledger.proxy.socket(), |step, _| match step {
        Report(2) => Fate::Cut,
        _ => Fate::Pass,
    })?;
    let guest = ledger.guest().proxy(&mitm.socket()).patience(PATIENCE);
    let boot = guest.boot()?;
    assert_eq!(boot.status, 0, "the log:\n{}", boot.log());
    boot.assert_says(&["ERROR: ledger: commits are not reported at the moment"]);
    ledger.guest().boot()?.assert_complete();
    stays_out(&ledger, &old)
}

#[test]
fn a_server_killed_while_it_stores_a_report_locks_nobody_out() -> Result<()> {
    let mut ledger = Ledger::start("boot", &[])?;
    ledger.guest().boot()?.assert_complete();
    for fault in ["before-store", "after-store"] {
        let old = ledger.copy("old.img")?;
        ledger.restart(|_| Ok(()), &["--test-fault", fault])?;
        let boot = ledger.guest().boot()?;
        boot.assert_stopped("ledger: report to the server");
        assert!(
            !ledger.kbs.as_mut().unwrap().is_running(),
            "{fault}: the server lives"
        );
        ledger.restart(|_| Ok(()), &[])?;
        ledger.guest().boot()?.assert_complete();
        // What was there before the interrupted boot is old now.
        stays_out(&ledger, &old)?;
    }
    Ok(())
}

#[test]
fn a_server_killed_after_it_stored_a_release_locks_nobody_out() -> Result<()> {
    let (mut ledger, old) = used("boot")?;
    ledger.restart(|_| Ok(()), &["--test-fault", "after-release"])?;
    ledger
        .guest()
        .boot()?
        .assert_stopped("no decision on the evidence, the proxy says: ");
    ledger.restart(|_| Ok(()), &[])?;
    ledger.guest().boot()?.assert_complete();
    stays_out(&ledger, &old)
}
