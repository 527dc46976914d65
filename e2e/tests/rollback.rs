//! A disk that is not the newest is refused, wherever it comes from; the owner can accept
//! one all the same; and no interruption locks the owner out.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use e2e::ledger::VOLUME;
use e2e::{Fate, Ledger, Mitm, To, image};

/// The line about the boot counter after `n` boots.
fn counted(n: u32) -> String {
    format!("persistence demo: boot counter read back is {n}")
}

#[test]
fn the_newest_disk_opens_boot_after_boot() -> Result<()> {
    let ledger = Ledger::start("boot", &[])?;
    for epoch in 1..4 {
        let boot = ledger.guest().boot()?;
        boot.assert_complete();
        boot.assert_says(&[&format!("ledger: epoch {epoch} of the volume is recorded")]);
        boot.assert_never_says("no server vouches");
    }
    Ok(())
}

#[test]
fn a_disk_rolled_back_by_one_boot_is_refused_until_the_owner_accepts_it() -> Result<()> {
    let mut ledger = Ledger::start("boot", &[])?;
    ledger.guest().boot()?.assert_complete();
    let old = ledger.copy("old.img")?;
    ledger.guest().boot()?.assert_complete();
    let before = fs::read(&old)?;
    ledger
        .guest_on(&old)
        .boot()?
        .assert_stopped("rolled back, 1 boots behind the ledger (epoch 1 of 2)");
    assert!(fs::read(&old)? == before, "a refused disk was written to");
    // The right one is none the worse.
    let boot = ledger.guest().boot()?;
    boot.assert_complete();
    boot.assert_says(&[&counted(2)]);

    // Deliberately, by the owner.
    ledger.restart(
        |ledger| {
            let mut arguments = vec!["ledger", "set", VOLUME, "--epoch", "1"];
            arguments.extend(["--counter", "0", "--reason", "restored from a backup"]);
            ledger.admin(&arguments).map(drop)
        },
        &[],
    )?;
    let boot = ledger.guest_on(&old).boot()?;
    boot.assert_complete();
    boot.assert_says(&[&counted(1)]);
    Ok(())
}

#[test]
fn a_disk_rolled_back_by_one_commit_is_refused_where_commits_are_reported() -> Result<()> {
    let ledger = Ledger::start("commit", &[])?;
    ledger.guest().boot()?.assert_complete();
    // The host copies the disk when the second commit of this boot is reported.
    let (disk, old) = (ledger.disk(), ledger.path("old.img"));
    let copy = old.clone();
    let mitm = Mitm::start(
        &ledger.path("."),
        ledger.proxy.socket(),
        move |to, number, _| {
            if (to, number) == (To::Proxy, 7) {
                fs::copy(&disk, &copy).expect("the disk can be copied");
            }
            Fate::Pass
        },
    )?;
    let boot = ledger.guest().proxy(mitm.socket()).boot()?;
    boot.assert_complete();
    assert!(old.exists(), "no commit was reported:\n{}", boot.log());
    let boot = ledger.guest_on(&old).boot()?;
    boot.assert_stopped("commits behind the ledger");
    ledger.guest().boot()?.assert_complete();
    Ok(())
}

#[test]
fn a_creation_header_in_place_of_the_disk_is_refused() -> Result<()> {
    let ledger = Ledger::start("boot", &[])?;
    ledger.guest().boot()?.assert_complete();
    let blank = ledger.path("blank.img");
    image::creation_header(&blank)?;
    let before = fs::read(&blank)?;
    let boot = ledger.guest_on(&blank).boot()?;
    boot.assert_stopped("the ledger knows a volume, and no device has it");
    boot.assert_says(&["formatting is not permitted"]);
    assert!(fs::read(&blank)? == before);
    Ok(())
}

#[test]
fn the_disk_of_another_machine_is_refused() -> Result<()> {
    let (mine, other) = (Ledger::start("boot", &[])?, Ledger::start("boot", &[])?);
    mine.guest().boot()?.assert_complete();
    for _ in 0..2 {
        other.guest().boot()?.assert_complete();
    }
    mine.guest_on(&other.disk())
        .boot()?
        .assert_stopped("it is another volume than the ledger knows");
    Ok(())
}

#[test]
fn of_two_clones_at_the_same_time_one_is_refused() -> Result<()> {
    let ledger = Ledger::start("boot", &[])?;
    ledger.guest().boot()?.assert_complete();
    let clone = ledger.copy("clone.img")?;
    // The first machine's report is held up until the second one is through.
    let (arrived, on_arrival) = mpsc::channel();
    let (go_on, held_up) = mpsc::channel::<()>();
    let mitm = Mitm::start(
        &ledger.path("."),
        ledger.proxy.socket(),
        move |to, number, _| {
            if (to, number) == (To::Proxy, 5) {
                let _ = arrived.send(());
                let _ = held_up.recv_timeout(Duration::from_secs(60));
            }
            Fate::Pass
        },
    )?;
    let first = ledger.guest().proxy(mitm.socket());
    let first = std::thread::spawn(move || first.boot());
    on_arrival.recv_timeout(Duration::from_secs(60))?;
    // aproxy serves one line at a time, so the second machine has a proxy of its own.
    let url = ledger.kbs.as_ref().map(|kbs| kbs.url().to_owned()).unwrap();
    let dir = tempfile::tempdir()?;
    let proxy = e2e::Proxy::start(dir.path(), &url)?;
    let second = ledger.guest_on(&clone).proxy(proxy.socket()).boot()?;
    second.assert_complete();
    go_on.send(())?;
    let first = first.join().expect("the thread does not panic")?;
    first.assert_stopped("ledger: report to the server: refused");
    Ok(())
}

#[test]
fn with_clone_protection_a_boot_takes_a_priming() -> Result<()> {
    let mut ledger = Ledger::start("boot", &["--prime"])?;
    let prime = |ledger: &Ledger| ledger.admin(&["prime", VOLUME]).map(drop);
    ledger
        .guest()
        .boot()?
        .assert_stopped("is not primed: its owner allows one boot at a time");
    ledger.restart(prime, &[])?;
    ledger.guest().boot()?.assert_complete();
    ledger
        .guest()
        .boot()?
        .assert_stopped("is not primed: its owner allows one boot at a time");
    ledger.restart(prime, &[])?;
    ledger.guest().boot()?.assert_complete();
    Ok(())
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
        ledger
            .guest_on(&old)
            .boot()?
            .assert_stopped("boots behind the ledger");
    }
    Ok(())
}

/// Cuts the line at message `number` of a boot; the next one must work.
fn cut_at(number: usize, error: &str) -> Result<()> {
    let ledger = Ledger::start("boot", &[])?;
    ledger.guest().boot()?.assert_complete();
    let mitm = Mitm::start(&ledger.path("."), ledger.proxy.socket(), move |_, n, _| {
        if n == number { Fate::Cut } else { Fate::Pass }
    })?;
    let boot = ledger.guest().proxy(mitm.socket()).boot()?;
    boot.assert_stopped(error);
    let boot = ledger.guest().boot()?;
    boot.assert_complete();
    boot.assert_says(&[&counted(1)]);
    Ok(())
}

#[test]
fn a_proxy_killed_before_it_negotiates_locks_nobody_out() -> Result<()> {
    cut_at(2, "attestation failed: negotiation")
}

#[test]
#[ignore = "the SVSM waits a minute for a decision"]
fn a_proxy_killed_before_the_decision_locks_nobody_out() -> Result<()> {
    cut_at(4, "attestation failed: decision")
}

#[test]
#[ignore = "the SVSM tries a report for more than a minute"]
fn a_proxy_killed_before_an_acknowledgement_locks_nobody_out() -> Result<()> {
    cut_at(6, "ledger: report to the server")
}
