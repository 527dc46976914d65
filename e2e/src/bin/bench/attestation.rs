//! What an attestation takes, and what the ledger adds to a commit.

use anyhow::{Context, Result, ensure};
use e2e::{Boot, Ledger, Servers, workload};

use super::{median, number, table::Table};

/// Boots of which the median counts.
const BOOTS: usize = 5;

/// Commits that share the time.
const COMMITS: u32 = 100;

/// Measures everything.
pub fn measure(table: &mut Table) -> Result<()> {
    phases(table)?;
    ledgers(table)
}

fn phases(table: &mut Table) -> Result<()> {
    let servers = Servers::start()?;
    let boots = (0..BOOTS)
        .map(|_| servers.guest().boot())
        .collect::<Result<Vec<Boot>>>()?;
    for phase in ["negotiation", "evidence", "decision", "opening"] {
        let line = format!("time: attestation, {phase}, took ");
        let times = boots
            .iter()
            .map(|boot| number(boot, &line, " ms"))
            .collect::<Result<Vec<_>>>()?;
        let key = format!("attest.ms.{phase}");
        table.add(key, median(times.into_iter()), "attestation, by phase, ms");
    }
    let boot = boots.first().context("there was a boot")?;
    let sent = number(boot, "attestation: ", " bytes sent")?;
    let received = number(boot, "bytes sent, ", " received")?;
    table.add(
        "attest.bytes",
        sent + received,
        "both ways on the line to the proxy",
    );
    Ok(())
}

fn ledgers(table: &mut Table) -> Result<()> {
    for mode in ["off", "boot", "commit", "strict"] {
        eprintln!("ledger {mode}");
        let ledger = Ledger::start(mode, &[])?;
        let boot = workload::asking(ledger.guest(), &format!("commits={COMMITS}")).boot()?;
        ensure!(boot.status == 0, "the boot failed:\n{}", boot.log());
        let numbers = workload::numbers(&boot)?;
        let (_, us) = numbers.first().context("no number")?;
        table.add(
            format!("ledger.{mode}.ms_per_commit"),
            *us as f64 / 1000.0,
            "a commit of 64 bytes, reports included, ms",
        );
    }
    Ok(())
}
