//! A disk that is not the newest is refused, wherever it comes from; the owner can accept
//! one all the same.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use e2e::ledger::VOLUME;
use e2e::{Ledger, Mitm, Proxy, Step, image};

/// Longest time for anything that a test waits for.
const LIMIT: Duration = Duration::from_secs(60);

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

/// Somebody who copies the disk of `ledger` to `copy` when the `n`-th report passes.
fn copying(ledger: &Ledger, copy: &Path, n: usize) -> Result<Mitm> {
    let (disk, copy) = (ledger.disk(), copy.to_owned());
    Mitm::changing(ledger.proxy.socket(), move |step, _| {
        if step == Step::Report(n) {
            fs::copy(&disk, &copy).expect("the disk can be copied");
        }
    })
}

#[test]
fn a_disk_rolled_back_by_one_commit_is_refused_where_commits_are_reported() -> Result<()> {
    let ledger = Ledger::start("commit", &[])?;
    ledger.guest().boot()?.assert_complete();
    let old = ledger.path("old.img");
    let mitm = copying(&ledger, &old, 2)?;
    let boot = ledger.guest().proxy(&mitm.socket()).boot()?;
    boot.assert_complete();
    assert!(old.exists(), "no commit was reported:\n{}", boot.log());
    let boot = ledger.guest_on(&old).boot()?;
    boot.assert_stopped("commits behind the ledger");
    ledger.guest().boot()?.assert_complete();
    Ok(())
}

#[test]
fn a_disk_without_the_last_answered_commit_is_refused_in_strict_mode() -> Result<()> {
    let ledger = Ledger::start("strict", &[])?;
    ledger.guest().boot()?.assert_complete();
    // The second commit of a boot, and the last, counts it; when its report passes, the
    // first one is on the copy for sure, and it may or may not be.
    let (first, second) = (ledger.path("first.img"), ledger.path("second.img"));
    let mitm = copying(&ledger, &first, 2)?;
    ledger
        .guest()
        .proxy(&mitm.socket())
        .boot()?
        .assert_complete();
    drop(mitm);
    ledger
        .guest_on(&first)
        .boot()?
        .assert_stopped("it was rolled back, 1 commits behind the ledger");
    let mitm = copying(&ledger, &second, 3)?;
    ledger
        .guest()
        .proxy(&mitm.socket())
        .boot()?
        .assert_complete();
    // A commit is on the disk before it is reported: this one is complete.
    let boot = ledger.guest_on(&second).boot()?;
    boot.assert_complete();
    boot.assert_says(&[&counted(3)]);
    Ok(())
}

#[test]
fn nothing_is_answered_before_its_commit_is_recorded_in_strict_mode() -> Result<()> {
    const COMMIT: usize = 3;
    const ANSWER: &str = "successfully wrote updated boot counter";
    let ledger = Ledger::start("strict", &[])?;
    let (arrived, on_arrival) = mpsc::channel();
    let (go_on, held_up) = mpsc::channel::<()>();
    let mitm = Mitm::changing(ledger.proxy.socket(), move |step, _| {
        if step == Step::Report(COMMIT) {
            let _ = arrived.send(());
            let _ = held_up.recv_timeout(LIMIT);
        }
    })?;
    let guest = ledger.guest().proxy(&mitm.socket()).start()?;
    on_arrival.recv_timeout(LIMIT)?;
    std::thread::sleep(Duration::from_secs(1));
    let early = guest.lines();
    assert!(!early.iter().any(|line| line.text.contains(ANSWER)));
    go_on.send(())?;
    let (_, lines) = guest.wait(LIMIT)?;
    assert!(lines.iter().any(|line| line.text.contains(ANSWER)));
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
    let mitm = Mitm::changing(ledger.proxy.socket(), move |step, _| {
        if step == Step::Report(1) {
            let _ = arrived.send(());
            let _ = held_up.recv_timeout(LIMIT);
        }
    })?;
    let first = ledger.guest().proxy(&mitm.socket());
    let first = std::thread::spawn(move || first.boot());
    on_arrival.recv_timeout(LIMIT)?;
    // aproxy serves one line at a time, so the second machine has a proxy of its own.
    let dir = tempfile::tempdir()?;
    let proxy = Proxy::start(dir.path(), ledger.url()?)?;
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
