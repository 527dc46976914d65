//! The services of a booted SVSM, through the real tools: tpm2-tools by way of
//! `guestlink tpm`, UEFI variables by way of `guestlink efivar`, reboots in between.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::link::RawLink;
use e2e::setting::{LOADED, MANUFACTURED};
use e2e::{Servers, Serving, Setting, image};

#[test]
fn a_secret_sealed_to_pcrs_in_one_boot_unseals_in_the_next() -> Result<()> {
    let setting = Setting::new()?;
    fs::write(setting.servers.path("secret"), "the secret")?;

    let first = setting.boot()?;
    ensure!(first.log().contains(MANUFACTURED), "{}", first.log());
    let tpm = first.tpm()?;
    for line in [
        "tpm2_startup -c",
        "tpm2_createprimary -Q -G ecc -c primary.ctx",
        "tpm2_evictcontrol -Q -c primary.ctx 0x81000001",
        // Without a resource manager what a tool loads stays loaded, and there are 3 slots.
        "tpm2_flushcontext -t",
        "tpm2_pcrread -Q -o pcr.bin sha256:0,1,2,3",
        "tpm2_createpolicy -Q --policy-pcr -l sha256:0,1,2,3 -f pcr.bin -L pcr.policy",
        "tpm2_create -Q -C 0x81000001 -L pcr.policy -i secret -u seal.pub -r seal.priv",
        "tpm2_nvdefine -Q 0x1500001 -s 16 -a ownerread|ownerwrite",
        "tpm2_nvdefine -Q 0x1500002 -s 8 -a nt=counter|ownerread|ownerwrite",
        "tpm2_nvwrite -Q 0x1500001 -C o -i secret",
        "tpm2_nvincrement -Q 0x1500002 -C o",
        "tpm2_nvincrement -Q 0x1500002 -C o",
    ] {
        tpm.line(line)?;
    }
    let count = tpm.line("tpm2_nvread 0x1500002 -C o")?;
    drop(tpm);
    let boot = first.shut_down()?;
    boot.assert_complete();
    boot.assert_says(&["[SVSM] guest link: closed by the host after"]);

    let second = setting.boot()?;
    ensure!(second.log().contains(LOADED), "{}", second.log());
    let tpm = second.tpm()?;
    tpm.line("tpm2_startup -c")?;
    tpm.line("tpm2_load -Q -C 0x81000001 -u seal.pub -r seal.priv -c seal.ctx")?;
    assert_eq!(
        tpm.line("tpm2_unseal -c seal.ctx -p pcr:sha256:0,1,2,3")?,
        "the secret"
    );
    assert!(
        tpm.line("tpm2_nvread 0x1500001 -C o -s 10")?
            .starts_with("the secret")
    );
    assert_eq!(tpm.line("tpm2_nvread 0x1500002 -C o")?, count);
    tpm.line("tpm2_nvincrement -Q 0x1500002 -C o")?;
    assert_ne!(tpm.line("tpm2_nvread 0x1500002 -C o")?, count);

    // With another PCR the policy does not fit any more.
    let zeros = "0".repeat(64);
    tpm.line(&format!("tpm2_pcrextend 0:sha256={zeros}"))?;
    assert!(
        tpm.line("tpm2_unseal -c seal.ctx -p pcr:sha256:0,1,2,3")
            .is_err()
    );
    drop(tpm);
    second.shut_down()?.assert_complete();
    Ok(())
}

#[test]
fn the_owner_has_the_tpm_manufactured_again() -> Result<()> {
    let setting = Setting::new()?;
    fs::write(setting.servers.path("secret"), "the secret")?;
    let first = setting.boot()?;
    let tpm = first.tpm()?;
    for line in [
        "tpm2_startup -c",
        "tpm2_createprimary -Q -G ecc -c primary.ctx",
        "tpm2_flushcontext -t",
        "tpm2_create -Q -C primary.ctx -i secret -u seal.pub -r seal.priv",
    ] {
        tpm.line(line)?;
    }
    drop(tpm);
    let manifest = first.guestlink(&["manifest"])?;
    first.shut_down()?.assert_complete();

    let dir = setting.servers.path("");
    let second = Serving::start_kernel("svsm-remanufacture.elf", setting.guest(), &dir)?;
    ensure!(
        second
            .log()
            .contains("vTPM: manufactured new state in place of what was on the volume"),
        "{}",
        second.log()
    );
    second.shut_down()?.assert_complete();

    let third = setting.boot()?;
    ensure!(third.log().contains(LOADED), "{}", third.log());
    assert_ne!(third.guestlink(&["manifest"])?, manifest);
    let tpm = third.tpm()?;
    tpm.line("tpm2_startup -c")?;
    tpm.line("tpm2_createprimary -Q -G ecc -c primary.ctx")?;
    tpm.line("tpm2_flushcontext -t")?;
    let loaded = tpm.line("tpm2_load -C primary.ctx -u seal.pub -r seal.priv -c seal.ctx");
    let refused = loaded.expect_err("another TPM").to_string();
    // TPM_RC_INTEGRITY of parameter 1.
    assert!(refused.contains("0x1DF"), "{refused}");
    drop(tpm);
    third.shut_down()?.assert_complete();
    Ok(())
}

#[test]
fn what_was_answered_survives_a_pulled_plug() -> Result<()> {
    let setting = Setting::new()?;
    fs::write(setting.servers.path("value"), "0123456789abcdef")?;
    let first = setting.boot()?;
    let tpm = first.tpm()?;
    for line in [
        "tpm2_startup -c",
        "tpm2_nvdefine -Q 0x1500001 -s 16 -a ownerread|ownerwrite",
        "tpm2_nvwrite -Q 0x1500001 -C o -i value",
    ] {
        tpm.line(line)?;
    }
    drop(tpm);
    first.guestlink(&[
        "efivar",
        "set",
        "Test",
        "--guid",
        "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a",
        "--text",
        "kept",
    ])?;
    first.kill()?;

    let second = setting.boot()?;
    ensure!(second.log().contains(LOADED), "{}", second.log());
    let tpm = second.tpm()?;
    tpm.line("tpm2_startup -c")?;
    assert_eq!(tpm.line("tpm2_nvread 0x1500001 -C o")?, "0123456789abcdef");
    drop(tpm);
    let value = second.guestlink(&[
        "efivar",
        "get",
        "Test",
        "--guid",
        "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a",
    ])?;
    assert_eq!(value.trim(), "6b657074");
    second.shut_down()?.assert_complete();
    Ok(())
}

#[test]
fn without_a_volume_the_services_are_volatile_and_say_so() -> Result<()> {
    let servers = Servers::start()?;
    let serving = Serving::start(servers.guest(), servers.path("").as_path())?;
    let manifest: serde_json::Value =
        serde_json::from_str(&serving.guestlink(&["manifest", "--json"])?)?;
    let services = manifest["services"].as_array().context("services")?;
    // And the key broker.
    assert_eq!(services.len(), 3);
    assert_eq!(services[1]["flags"]["persistent_nv_vars"], false);
    serving.guestlink(&["efivar", "set", "BootNext", "--hex", "0100"])?;
    let boot = serving.shut_down()?;
    assert_eq!(boot.status, 0, "{}", boot.log());
    boot.assert_says(&[
        "[SVSM] WARNING: vTPM: manufactured volatile state",
        "[SVSM] WARNING: UEFI variables: volatile",
    ]);
    Ok(())
}

#[test]
fn variables_and_manifest_are_there_in_the_next_boot() -> Result<()> {
    let setting = Setting::new()?;
    let first = setting.boot()?;
    let manifest = first.guestlink(&["manifest", "--json"])?;
    first.guestlink(&["efivar", "set", "Boot0007", "--hex", "0100000000000000"])?;
    first.guestlink(&["efivar", "set", "BootOrder", "--hex", "0700"])?;
    first.guestlink(&["efivar", "set", "Timeout", "--hex", "0500"])?;
    first.guestlink(&["efivar", "append", "BootOrder", "--hex", "0800"])?;
    first.guestlink(&["efivar", "delete", "Timeout"])?;
    let list = first.guestlink(&["efivar", "list", "--json"])?;
    first.shut_down()?.assert_complete();

    let second = setting.boot()?;
    assert!(
        second.log().contains("UEFI variables: 2 loaded"),
        "{}",
        second.log()
    );
    assert_eq!(second.guestlink(&["manifest", "--json"])?, manifest);
    assert_eq!(
        second.guestlink(&["efivar", "get", "BootOrder"])?.trim(),
        "07000800"
    );
    let gone = second.guestlink(&["efivar", "get", "Timeout"]);
    let gone = gone.expect_err("it was deleted").to_string();
    assert!(gone.contains("EFI_NOT_FOUND"), "{gone}");
    let of_name = |list: &str, name: &str| -> Result<usize> {
        let list: serde_json::Value = serde_json::from_str(list)?;
        let list = list.as_array().context("a list")?;
        Ok(list.iter().filter(|v| v["name"] == name).count())
    };
    let again = second.guestlink(&["efivar", "list", "--json"])?;
    for list in [&list, &again] {
        assert_eq!(of_name(list, "Boot0007")?, 1);
        assert_eq!(of_name(list, "Timeout")?, 0);
    }
    second.guestlink(&[
        "efivar",
        "export",
        "--format",
        "json",
        "--output",
        "vars.json",
    ])?;
    let exported = fs::read_to_string(setting.servers.path("vars.json"))?;
    assert!(exported.contains("Boot0007"));
    second.guestlink(&["efivar", "export", "--format", "fd", "--output", "vars.fd"])?;
    assert_eq!(
        fs::metadata(setting.servers.path("vars.fd"))?.len(),
        540_672
    );
    second.shut_down()?.assert_complete();
    Ok(())
}

#[test]
fn calls_that_name_nothing_or_too_much_are_refused() -> Result<()> {
    let servers = Servers::start()?;
    let serving = Serving::start(servers.guest(), servers.path("").as_path())?;
    for (call, result) in [
        // Query protocol: vTPM, UEFI MM, APIC.
        (&["0", "6", "--rcx", "0x200000001"][..], "rcx 0x100000001"),
        (&["0", "6", "--rcx", "0x400000001"], "rcx 0x100000001"),
        (&["0", "6", "--rcx", "0x300000001"], "rcx 0x0"),
        (&["0", "1"], "result 0x80000002"),
        (&["3", "0"], "result 0x80000001"),
        (&["2", "0"], "rcx 0x100"),
        (&["2", "1", "--size", "4095"], "result 0x80000003"),
        (&["2", "1", "--size", "4096"], "result 0x80000002"),
        (&["4", "1"], "result 0x80000005"),
        (
            &["4", "1", "--size", "4096", "--rcx", "0x1000"],
            "result 0x80000003",
        ),
        // The SVSM's own memory is not the guest's.
        (
            &["4", "1", "--size", "64", "--rcx", "0xf000000"],
            "result 0x80000003",
        ),
        (
            &["4", "1", "--size", "64", "--rcx", "0xffffffffffffff00"],
            "result 0x80000003",
        ),
        (&["1", "0", "--size", "63"], "result 0x80000003"),
        (&["1", "0", "--size", "64"], "result 0x80000005"),
    ] {
        let mut arguments = vec!["call"];
        arguments.extend(call);
        let said = serving.guestlink(&arguments)?;
        assert!(
            said.lines().any(|line| line.starts_with(result)),
            "{call:?}: {said}"
        );
    }
    let boot = serving.shut_down()?;
    assert_eq!(boot.status, 0, "{}", boot.log());
    boot.assert_says(&["closed by the host after 14 calls; 0 frames refused"]);
    Ok(())
}

#[test]
fn a_hostile_line_is_served_on_after_garbage_half_frames_and_lies() -> Result<()> {
    let servers = Servers::start()?;
    let serving = Serving::start(servers.guest(), servers.path("").as_path())?;
    let mut seed = 0x1234_5678_9abc_def0_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let silence = Duration::from_millis(300);
    {
        let mut raw = RawLink::connect(&serving.socket())?;
        // Noise, with the beginnings of frames in it.
        for _ in 0..20 {
            let mut noise: Vec<u8> = (0..1000).map(|_| random() as u8).collect();
            noise.extend([0xfb, b'G', b'L', 1, 2, 0, 0, 0]);
            raw.send(&noise)?;
        }
        raw.receive(silence)?;
        // The beginning of a frame whose end never comes.
        let mut half = Vec::new();
        let body = vec![0; 60_000];
        guestlink::frame::encode(guestlink::Kind::Call, 7, &body, &mut half)?;
        raw.send(&half[..30_000])?;
    }
    // The next client finds the SVSM where it left off.
    assert!(
        serving
            .guestlink(&["call", "2", "0"])?
            .contains("rcx 0x100")
    );
    {
        let mut raw = RawLink::connect(&serving.socket())?;
        // Frames that fit, with bodies that do not.
        for number in 0..200_u32 {
            let body: Vec<u8> = (0..random() % 300).map(|_| random() as u8).collect();
            let kind = [
                guestlink::Kind::Hello,
                guestlink::Kind::Call,
                guestlink::Kind::Answer,
                guestlink::Kind::Refused,
            ][(random() % 4) as usize];
            let mut frame = Vec::new();
            guestlink::frame::encode(kind, number, &body, &mut frame)?;
            raw.send(&frame)?;
        }
        let answers = raw.receive(Duration::from_secs(2))?;
        ensure!(
            answers.len() >= 200 * 24,
            "{} bytes of answers",
            answers.len()
        );
    }
    assert!(
        serving
            .guestlink(&["call", "2", "0"])?
            .contains("rcx 0x100")
    );
    let boot = serving.shut_down()?;
    assert_eq!(boot.status, 0, "{}", boot.log());
    boot.assert_says(&["guest link: closed by the host after"]);
    boot.assert_never_says("Panic");
    Ok(())
}

#[test]
fn a_store_of_variables_that_does_not_parse_stops_the_boot() -> Result<()> {
    let setting = Setting::new()?;
    image::formatted(&setting.state, e2e::KEY)?;
    image::write_file(&setting.state, e2e::KEY, 2 << 32, b"no variable")?;
    let socket = setting.servers.path("link.sock");
    let boot = setting
        .guest()
        .option("--kernel")
        .option(e2e::tree::built("svsm-guestlink.elf"))
        .option("--guestlink")
        .option(&socket)
        .boot()?;
    boot.assert_stopped("UEFI variables: UEFI variable record 0 is damaged");
    assert_eq!(
        image::read_file(&setting.state, e2e::KEY, 2 << 32)?,
        b"no variable"
    );
    Ok(())
}

#[test]
fn a_kernel_that_serves_boots_to_its_end_without_a_line() -> Result<()> {
    let servers = Servers::start()?;
    let boot = servers
        .guest()
        .option("--kernel")
        .option(e2e::tree::built("svsm-guestlink.elf"))
        .boot()?;
    assert_eq!(boot.status, 0, "{}", boot.log());
    boot.assert_says(&["guest link: there is no serial port COM4, nothing is served"]);
    Ok(())
}
