//! What persistence costs, counted inside the booted kernel.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::{Servers, image, tree, workload};

/// Commits over which growth of the heap is looked for here.
const COMMITS: u32 = 200;

fn host_counts() -> Result<BTreeMap<String, i64>> {
    let output = Command::new(tree::built("bench-persistence"))
        .env("SVSM_BENCH_COMMITS", COMMITS.to_string())
        .output()?;
    ensure!(
        output.status.success(),
        "bench-persistence: {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("bench-persistence prints an object")
}

#[test]
fn the_kernel_on_a_virtio_device_counts_what_the_host_counts_in_memory() -> Result<()> {
    let expected = host_counts()?;
    let servers = Servers::start()?;
    let mut measured = BTreeMap::new();
    for (n, request) in [
        "overwrite=64",
        "overwrite=4096",
        "overwrite=16384",
        "overwrite=65536",
        "overwrite=262144",
        "mount=0",
        &format!("growth={COMMITS}"),
    ]
    .into_iter()
    .enumerate()
    {
        let state = servers.path(&format!("state{n}.img"));
        image::creation_header(&state)?;
        let boot = workload::asking(servers.guest().image(&state), request).boot()?;
        measured.extend(workload::numbers(&boot)?);
    }
    assert_eq!(measured, expected);
    for (key, most) in [
        ("commit.64.requests", 10),
        ("commit.4096.requests", 11),
        ("commit.16384.requests", 12),
        ("commit.65536.requests", 14),
        ("commit.262144.requests", 18),
        ("commit.16384.requests_before_answer", 6),
        ("commit.page_conversions", 0),
        ("mount.8MiB.requests", 6),
        (&format!("heap.growth_{COMMITS}_commits"), 0),
    ] {
        assert!(measured[key] <= most, "{key} is {}", measured[key]);
    }
    Ok(())
}
