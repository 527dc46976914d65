//! SNP reports, verified from end to end without SNP hardware: a kernel that makes them
//! under a test root, and a key broker that was told to trust that root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::ledger::VOLUME;
use e2e::{Boot, Guest, KEY, Kbs, Mitm, Proxy, Step, image, tree};
use igvmbuilder::features::{FeatureError, check_production};
use serde_json::json;
use tempfile::TempDir;

const MOCK: &str = "WARNING: attestation evidence is signed by a test key and proves nothing";

/// Runs a program that `make` builds; its standard output.
fn run(name: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(tree::built(name)).args(args).output()?;
    ensure!(
        output.status.success(),
        "{name} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("path is not UTF-8")
}

/// A chip that does not exist, and its root.
fn make_root(root: &Path) -> Result<()> {
    run("kbs-test", &["make-test-root", text(root)?]).map(drop)
}

/// A key broker that takes reports of this image under a test root and no sample evidence,
/// and a proxy in front of it.
struct Servers {
    kbs: Kbs,
    proxy: Proxy,
    dir: TempDir,
}

impl Servers {
    /// With the arguments that make the volume another than usual, for `kbs-test register`;
    /// the root is trusted unless `trusted` is false.
    fn start(register: &[&str], trusted: bool) -> Result<Self> {
        let igvm = tree::built("coconut-qemu.igvm");
        let measurement = run("igvmmeasure", &[text(&igvm)?, "measure", "-b"])?;
        Self::start_with(&measurement, register, trusted)
    }

    fn start_with(measurement: &str, register: &[&str], trusted: bool) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (root, db) = (dir.path().join("root"), dir.path().join("kbs.db"));
        make_root(&root)?;
        let mut arguments = vec!["register", VOLUME, "--secret", KEY];
        arguments.extend(["--measurement", measurement]);
        arguments.extend(register);
        Kbs::owner(&db, &arguments)?;
        let ark = root.join("ark.pem");
        let roots = ["--root", text(&ark)?];
        let kbs = Kbs::serve(&db, if trusted { &roots } else { &[] })?;
        let proxy = Proxy::start(dir.path(), kbs.url())?;
        Ok(Self { kbs, proxy, dir })
    }

    /// Where the test root is.
    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A guest on that chip.
    fn guest(&self) -> Guest {
        self.guest_without_root()
            .option("--mock-snp")
            .option(self.root())
    }

    /// The same kernel without a chip.
    fn guest_without_root(&self) -> Guest {
        Guest::new()
            .proxy(self.proxy.socket())
            .option("--kernel")
            .option(tree::built("svsm-mock-snp.elf"))
    }

    /// `boot` was refused by the server, with `cause`.
    #[track_caller]
    fn assert_refused(&self, boot: &Boot, cause: &str) {
        boot.assert_stopped("evidence refused, the proxy says: ");
        boot.assert_stopped(cause);
        assert!(!self.kbs.log().contains("released"), "{}", self.kbs.log());
    }
}

/// `guest`, of which reports make `claims`.
fn claiming(guest: Guest, claims: &str) -> Guest {
    guest.qemu("-fw_cfg").qemu(format!(
        "name=opt/org.coconut-svsm/mock-claims,string={claims}"
    ))
}

#[test]
fn a_report_under_a_trusted_root_earns_the_secret() -> Result<()> {
    let servers = Servers::start(&["--ledger", "boot", "--min-tcb", "snp=8"], true)?;
    let state = servers.dir.path().join("state.img");
    image::creation_header(&state)?;
    for counter in ["no boot counter found yet", "read back is 1"] {
        let boot = servers.guest().image(&state).boot()?;
        boot.assert_complete();
        boot.assert_says(&[MOCK, "attestation successful", counter]);
        boot.assert_never_says("this platform has no TEE");
    }
    let log = servers.kbs.log();
    assert!(log.contains("attested, tee snp, measurement "), "{log}");
    Ok(())
}

#[test]
fn a_report_of_the_older_exchange_earns_the_secret() -> Result<()> {
    let servers = Servers::start(&[], true)?;
    let state = servers.dir.path().join("state.img");
    image::formatted(&state, KEY)?;
    let mitm = Mitm::changing(servers.proxy.socket(), |step, message| {
        if step == Step::Offer {
            message["version"] = json!([0, 1, 0]);
        }
    })?;
    let guest = servers.guest().proxy(&mitm.socket());
    let boot = guest.image(&state).boot()?;
    boot.assert_complete();
    boot.assert_says(&[MOCK, "protocol 0.1.0 only", "attestation successful"]);
    assert!(servers.kbs.log().contains("attested, tee snp"));
    Ok(())
}

#[test]
fn a_report_in_the_form_of_trustee_earns_the_secret() -> Result<()> {
    let servers = Servers::start(&[], true)?;
    let dir = tempfile::tempdir()?;
    let proxy = Proxy::start_for("kbs", dir.path(), servers.kbs.url())?;
    let boot = servers.guest().proxy(proxy.socket()).boot()?;
    boot.assert_complete();
    boot.assert_says(&[MOCK, "nobody signed it", "attestation successful"]);
    assert!(servers.kbs.log().contains("attested, tee snp"));
    Ok(())
}

#[test]
fn a_root_that_the_server_was_not_told_to_trust_is_refused() -> Result<()> {
    let servers = Servers::start(&[], false)?;
    let boot = servers.guest().boot()?;
    boot.assert_says(&[MOCK]);
    servers.assert_refused(&boot, "(evidence-refused)");
    Ok(())
}

#[test]
fn a_report_of_another_image_is_refused() -> Result<()> {
    let servers = Servers::start_with(&"5a".repeat(48), &[], true)?;
    let boot = servers.guest().boot()?;
    servers.assert_refused(&boot, "launch measurement not as expected");
    Ok(())
}

#[test]
fn a_report_of_a_guest_that_the_host_can_look_into_is_refused() -> Result<()> {
    let servers = Servers::start(&[], true)?;
    for (claims, cause) in [
        ("policy=720896", "allows debugging"),
        ("policy=458752", "allows a migration agent"),
        ("policy=65536", "is not valid"),
        ("vmpl=1", "was requested from VMPL 1, not from VMPL 0"),
    ] {
        let boot = claiming(servers.guest(), claims).boot()?;
        servers.assert_refused(&boot, cause);
    }
    Ok(())
}

#[test]
fn a_report_of_old_firmware_or_with_smt_is_refused_where_the_volume_says_so() -> Result<()> {
    let servers = Servers::start(&["--min-tcb", "snp=9"], true)?;
    let boot = servers.guest().boot()?;
    servers.assert_refused(&boot, "has security version 8, at least 9 is required");
    let servers = Servers::start(&["--forbid-smt"], true)?;
    let boot = servers.guest().boot()?;
    servers.assert_refused(&boot, "the guest policy allows SMT");
    let boot = claiming(servers.guest(), "policy=131072").boot()?;
    boot.assert_complete();
    Ok(())
}

#[test]
fn a_report_that_another_chip_signed_is_refused() -> Result<()> {
    let servers = Servers::start(&[], true)?;
    let other = servers.dir.path().join("other");
    make_root(&other)?;
    // The right certificates, and a key that they are not about.
    std::fs::copy(servers.root().join("certs.bin"), other.join("certs.bin"))?;
    let guest = servers.guest_without_root();
    let boot = guest.option("--mock-snp").option(&other).boot()?;
    servers.assert_refused(&boot, "(evidence-refused)");
    Ok(())
}

#[test]
fn a_report_that_was_changed_on_the_way_is_refused() -> Result<()> {
    let servers = Servers::start(&[], true)?;
    let mitm = Mitm::changing(servers.proxy.socket(), |step, message| {
        if step == Step::Evidence {
            let report = &mut message["evidence"]["Snp"]["report"];
            let mut bytes = BASE64_STANDARD
                .decode(report.as_str().expect("a report is base64"))
                .expect("a report is base64");
            // HOST_DATA, which no rule is about: only the signature tells.
            bytes[0xc0] ^= 1;
            *report = BASE64_STANDARD.encode(bytes).into();
        }
    })?;
    let boot = servers.guest().proxy(&mitm.socket()).boot()?;
    servers.assert_refused(&boot, "(evidence-refused)");
    Ok(())
}

#[test]
fn sample_evidence_is_refused_where_reports_are_expected() -> Result<()> {
    let servers = Servers::start(&[], true)?;
    let boot = servers.guest_without_root().boot()?;
    boot.assert_says(&["this platform has no TEE"]);
    servers.assert_refused(&boot, "sample evidence proves nothing");
    Ok(())
}

#[test]
fn kernels_for_tests_are_refused_in_an_image_for_sev_snp() -> Result<()> {
    for (kernel, feature) in [
        ("kernel-mock-snp.elf", "mock_snp"),
        ("kernel-guestlink.elf", "guestlink"),
        ("kernel-selftest.elf", "selftest"),
        ("kernel-bench.elf", "bench"),
    ] {
        let kernel = std::fs::read(tree::built(kernel))?;
        let refused = check_production(&kernel);
        assert!(
            matches!(&refused, Err(FeatureError::Refused(name)) if name == feature),
            "{feature}: {refused:?}"
        );
    }
    check_production(&std::fs::read(tree::built("svsm.elf"))?)?;
    Ok(())
}
