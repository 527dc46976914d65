//! What persistence costs, counted inside the booted kernel.

use anyhow::Result;
use e2e::workload;

/// Commits over which growth of the heap is looked for here.
const COMMITS: u32 = 200;

#[test]
fn the_kernel_on_a_virtio_device_counts_what_the_host_counts_in_memory() -> Result<()> {
    let measured = workload::kernel_costs(COMMITS)?;
    assert_eq!(measured, workload::host_costs(COMMITS)?);
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
