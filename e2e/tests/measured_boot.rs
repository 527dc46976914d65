//! A second machine boots OVMF and Linux with the TPM in the SVSM as its own: firmware and
//! loader are measured, and the log explains the PCRs.

use anyhow::{Context, Result};
use e2e::event_log::{self, Digest, PCRS};
use e2e::initramfs::Initramfs;
use e2e::linux::{Linux, Settings, after};
use e2e::{Setting, tree};

const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mkdir /proc /sys
$b mount -t sysfs sysfs /sys
$b mount -t securityfs securityfs /sys/kernel/security
n=0
while [ $n -lt 24 ]; do
    echo "pcr $n: $($b cat /sys/class/tpm/tpm0/pcr-sha256/$n)"
    n=$((n + 1))
done
log=/sys/kernel/security/tpm0/binary_bios_measurements
echo "log: $($b od -An -v -tx1 $log | $b tr -d ' \n')"
$b poweroff -f
"#;

/// PCR 10 belongs to Linux's integrity measurement, which has a log of its own.
const NOT_IN_THE_LOG: usize = 10;

/// What a boot measured: the SHA-256 bank, and the log.
struct Measured {
    pcrs: Vec<Digest>,
    events: Vec<event_log::Event>,
}

/// Boots the SVSM, and the other machine with its TPM on the device `model`.
fn boot(setting: &Setting, model: &'static str) -> Result<Measured> {
    let serving = setting.boot()?;
    let tpm = serving.tpm_for_qemu()?;
    let initramfs = serving.path("initramfs");
    Initramfs::new(&tree::guest("busybox"), INIT)?.write(&initramfs)?;
    let lines = Linux {
        tpm: tpm.socket().to_owned(),
        tpm_device: model,
        settings: Settings::Empty,
        initramfs,
        disk: None,
        dir: serving.path(""),
    }
    .run()?;
    drop(tpm);
    serving.shut_down()?.assert_complete();

    let pcrs = (0..PCRS)
        .map(|n| digest(after(&lines, &format!("pcr {n}: "))?))
        .collect::<Result<_>>()?;
    let log = hex::decode(after(&lines, "log: ")?)?;
    let events = event_log::parse(&log)?;
    Ok(Measured { pcrs, events })
}

fn digest(text: &str) -> Result<Digest> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).with_context(|| format!("a digest: {text:?}"))?;
    Ok(digest)
}

fn check(measured: &Measured) {
    let Measured { pcrs, events } = measured;
    assert!(events.len() >= 20, "{} events", events.len());
    let explained = event_log::replay(events);
    for (n, pcr) in pcrs.iter().enumerate() {
        if n != NOT_IN_THE_LOG {
            assert_eq!(*pcr, explained[n], "PCR {n} is not what the log says");
        }
    }
    for (n, pcr) in pcrs.iter().take(8).enumerate() {
        assert_ne!(*pcr, [0; 32], "PCR {n} was not extended");
        let mut of_pcr = events.iter().filter(|event| event.pcr as usize == n);
        assert!(of_pcr.any(|event| event.kind == event_log::SEPARATOR));
    }
    // Where the log has what was measured, it is that.
    let mut compared = 0;
    for event in events {
        use event_log::{ACTION, SEPARATOR, VARIABLE_DRIVER_CONFIG};
        if matches!(event.kind, SEPARATOR | ACTION | VARIABLE_DRIVER_CONFIG) {
            assert_eq!(event.digest, event_log::sha256(&event.data), "{event:?}");
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared} events compared");
    // A log that lacks an event explains the PCRs no more.
    let (_, without_last) = events.split_last().expect("events");
    assert_ne!(event_log::replay(without_last), explained);
}

#[test]
fn firmware_and_linux_measure_into_the_svsms_tpm_and_the_log_explains_the_pcrs() -> Result<()> {
    let setting = Setting::with_tpm()?;
    let first = boot(&setting, "tpm-crb")?;
    check(&first);
    // The PCRs begin anew with the SVSM, and the other machine finds them as before.
    let second = boot(&setting, "tpm-tis")?;
    check(&second);
    for n in [0, 2, 3, 4, 6, 7] {
        assert_eq!(first.pcrs[n], second.pcrs[n], "PCR {n}");
    }
    Ok(())
}
