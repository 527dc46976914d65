//! QEMU killed at random moments while the SVSM writes: what was acknowledged is there
//! after the next boot, and no transaction is there by half.
//!
//! `KILLS` says how often; `PROOFS_JSON` names a file of numbers to add to.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Servers, image, proofs, workload};

const SAMPLE: u64 = 5;

/// From the start of QEMU to the moment after which nothing new can be hit: boot,
/// opening and some dozens of transactions.
const LONGEST_LIFE: Duration = Duration::from_millis(3500);

#[test]
fn acknowledged_transactions_survive_kills_and_no_other_shows_by_half() -> Result<()> {
    let runs = match std::env::var("KILLS") {
        Ok(number) => number.parse().context("KILLS is a number")?,
        Err(_) => SAMPLE,
    };
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let writing = workload::asking(servers.guest().image(&state), "writes=1000000");
    let checking = workload::asking(servers.guest().image(&state), "writes=0");

    let mut acknowledged = 0;
    let mut lost = 0;
    let mut killed_at_work = 0;
    for run in 0..runs {
        // Spread over the whole life, so that formatting, mounting and recovery are
        // hit as well as writing.
        let life = LONGEST_LIFE.mul_f64(proofs::fraction(run));
        if let Some(last) = workload::kill_after(&writing, life)? {
            acknowledged = last;
            killed_at_work += 1;
        }
        let boot = checking.boot()?;
        boot.assert_complete();
        let found = workload::found(&boot)?;
        // One transaction may have taken effect without its answer having been seen.
        if found < acknowledged || found > acknowledged + 1 {
            eprintln!(
                "run {run}: {acknowledged} acknowledged, {found} found:\n{}",
                boot.log()
            );
            lost += 1;
        }
        acknowledged = found;
    }
    assert!(
        killed_at_work * 3 >= runs,
        "only {killed_at_work} of {runs} guests were killed while they wrote"
    );
    proofs::record(&[("kill.runs", runs), ("kill.lost", lost)])?;
    assert_eq!(lost, 0);
    Ok(())
}
