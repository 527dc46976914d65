//! What only the booted kernel can show, by a build that checks itself.

use anyhow::Result;
use e2e::{Boot, Servers, image, tree};

/// A CPU with what the kernel needs, and without AES, PCLMUL, SHA and AVX
/// instructions.
const PLAIN_CPU: &str = "qemu64,+ssse3,+rdrand";

/// Boots the self-test build on a volume, with more arguments for QEMU.
fn boot(more: &[&str]) -> Result<Boot> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let mut guest = servers
        .guest()
        .image(&state)
        .option("--kernel")
        .option(tree::built("svsm-selftest.elf"));
    for argument in more {
        guest = guest.qemu(*argument);
    }
    guest.boot()
}

/// How often an instruction was executed, as the line with `what` says.
#[track_caller]
fn count(boot: &Boot, what: &str, instruction: &str) -> u32 {
    boot.lines
        .iter()
        .filter(|l| l.text.contains(what))
        .flat_map(|l| l.text.split(", "))
        .find_map(|part| {
            let part = part.rsplit(": ").next()?;
            part.strip_suffix(instruction)?.trim().parse().ok()
        })
        .unwrap_or_else(|| panic!("no count of {instruction} for {what}:\n{}", boot.log()))
}

#[test]
fn crypto_instructions_are_executed_where_the_cpu_has_them() -> Result<()> {
    let boot = boot(&[])?;
    boot.assert_complete();
    boot.assert_says(&["CPU: AES-NI yes, PCLMUL yes"]);
    for check in [
        "AES-GCM uses AES-NI where present",
        "AES-GCM uses PCLMULQDQ where present",
        "SHA-256 uses SHA-NI where present",
        "CocoonFs uses AES-NI where present",
    ] {
        boot.assert_says(&[&format!("selftest: {check}: ok")]);
    }
    for work in ["AES-GCM of one block", "reading a file"] {
        assert!(count(&boot, work, "AES-NI") > 0, "{}", boot.log());
    }
    Ok(())
}

#[test]
fn without_crypto_instructions_the_same_boot_works_in_software() -> Result<()> {
    let boot = boot(&["-cpu", PLAIN_CPU])?;
    boot.assert_complete();
    boot.assert_says(&["CPU: AES-NI no, PCLMUL no, AVX no, SHA-NI no"]);
    boot.assert_says(&["selftest: CocoonFs uses AES-NI where present: ok"]);
    for work in ["AES-GCM of one block", "reading a file"] {
        assert_eq!(count(&boot, work, "AES-NI"), 0, "{}", boot.log());
    }
    boot.assert_says(&["persistent CocoonFs storage opened successfully"]);
    Ok(())
}

#[test]
fn the_kernel_passes_its_checks_of_itself() -> Result<()> {
    let boot = boot(&[])?;
    boot.assert_complete();
    for check in [
        "exceptions keep the SSE state",
        "random words differ",
        "huge allocation fails",
        "shared memory comes back",
    ] {
        boot.assert_says(&[&format!("selftest: {check}: ok")]);
    }
    Ok(())
}

/// Boots into a trap; the kernel must end with a report and the exit code of a bug.
#[track_caller]
fn trapped(trap: &str, report: &[&str]) -> Result<()> {
    let file = format!("name=opt/org.coconut-svsm/selftest,string={trap}");
    let boot = boot(&["-fw_cfg", &file])?;
    assert_eq!(boot.status, 2, "the log:\n{}", boot.log());
    boot.assert_says(report);
    boot.assert_says(&["[SVSM] ERROR: backtrace:", "[SVSM] ERROR:   [0xffffffff8"]);
    boot.assert_never_says("boot sequence complete");
    Ok(())
}

#[test]
fn a_stack_overflow_hits_the_guard_page_and_is_named() -> Result<()> {
    trapped(
        "stack-overflow",
        &[
            "[SVSM] ERROR: Exception on CPU[0]: ",
            "[SVSM] ERROR: the kernel stack has overflowed",
        ],
    )
}

#[test]
fn code_cannot_be_written() -> Result<()> {
    trapped(
        "write-text",
        &[
            "[SVSM] ERROR: Exception on CPU[0]: ",
            "ERROR: address 0xffffffff8",
        ],
    )
}

#[test]
fn data_cannot_be_executed() -> Result<()> {
    trapped("execute-data", &["[SVSM] ERROR: Exception on CPU[0]: "])
}

#[test]
fn nothing_is_at_address_zero() -> Result<()> {
    trapped(
        "read-null",
        &[
            "[SVSM] ERROR: Exception on CPU[0]: ",
            "ERROR: address 0x0000000000000000",
        ],
    )
}

#[test]
fn a_panic_is_reported_with_its_place() -> Result<()> {
    trapped(
        "panic",
        &[
            "[SVSM] ERROR: Panic on CPU[0]: the self-test asked for it",
            "[SVSM] ERROR: at kernel/src/selftest.rs:",
        ],
    )
}
