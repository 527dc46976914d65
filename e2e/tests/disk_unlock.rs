//! A disk of a Linux guest whose TPM is in the SVSM: systemd enrols it, and unlocks it in the
//! next boot without a password, as long as firmware and Secure Boot are as they were.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::initramfs::Initramfs;
use e2e::linux::{Linux, Settings, after};
use e2e::{Setting, tree};

/// In the order in which they are loaded; those that are built in have no file.
const MODULES: [&str; 10] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "dm-mod",
    "dm-crypt",
    "ecb",
    "xts",
];

const PROGRAMS: [&str; 2] = [
    "/usr/bin/systemd-cryptenroll",
    "/usr/lib/systemd/systemd-cryptsetup",
];

/// What they load by name.
const LIBRARIES: [&str; 5] = [
    "libtss2-esys.so.0",
    "libtss2-mu.so.0",
    "libtss2-rc.so.0",
    "libtss2-tcti-device.so.0",
    "cryptsetup/libcryptsetup-token-systemd-tpm2.so",
];
const LIBRARY_DIRECTORIES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];

const ENROL: &str = "
export PASSWORD=password
/usr/bin/systemd-cryptenroll --tpm2-device=/dev/tpmrm0 --tpm2-pcrs=0+7 /dev/vda
echo enrolled: $?
unset PASSWORD";

const UNLOCK: &str = "
/usr/lib/systemd/systemd-cryptsetup attach disk /dev/vda - \
    tpm2-device=/dev/tpmrm0,headless=1
echo unlocked: $?";

const WRITE: &str = "
printf 'kept on the disk' | $b dd of=/dev/mapper/disk conv=fsync";

const READ: &str = "
echo \"content: $($b dd if=/dev/mapper/disk bs=16 count=1)\"";

fn library(name: &str) -> Result<PathBuf> {
    let places = LIBRARY_DIRECTORIES.map(|directory| Path::new(directory).join(name));
    let found = places.into_iter().find(|place| place.exists());
    found.with_context(|| format!("{name} is missing: run scripts/setup.sh"))
}

/// Boots the SVSM, and the guest, which does `steps`; what it said.
fn boot(setting: &Setting, settings: Settings, steps: &[&str]) -> Result<Vec<String>> {
    let serving = setting.boot()?;
    let mut init = "#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /run /tmp
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
exec >/dev/console 2>&1
export DM_DISABLE_UDEV=1
"
    .to_owned();
    let present = |module: &&str| {
        tree::guest("vmlinuz")
            .with_file_name(format!("{module}.ko"))
            .exists()
    };
    let modules: Vec<_> = MODULES.into_iter().filter(present).collect();
    for module in &modules {
        init.push_str(&format!("$b insmod /{module}.ko\n"));
    }
    for step in steps {
        init.push_str(step);
    }
    init.push_str("\n$b poweroff -f\n");
    let mut archive = Initramfs::new(&tree::guest("busybox"), &init)?;
    for module in &modules {
        let file = format!("{module}.ko");
        archive.file(&file, &tree::guest(&file))?;
    }
    for program in PROGRAMS {
        archive.program(Path::new(program))?;
    }
    for name in LIBRARIES {
        archive.program(&library(name)?)?;
    }
    let initramfs = serving.path("initramfs");
    archive.write(&initramfs)?;
    let tpm = serving.tpm_for_qemu()?;
    let lines = Linux {
        tpm: tpm.socket().to_owned(),
        tpm_device: "tpm-crb",
        settings,
        initramfs,
        disk: Some(serving.path("disk.img")),
        dir: serving.path(""),
    }
    .run()?;
    drop(tpm);
    serving.shut_down()?.assert_complete();
    Ok(lines)
}

#[test]
#[ignore = "three boots of a Linux with all that systemd needs; make test-full runs it"]
fn a_disk_unlocks_in_the_next_boot_and_not_with_other_firmware_settings() -> Result<()> {
    let setting = Setting::with_tpm()?;
    let output = Command::new("bash")
        .args([
            "-euc",
            "truncate -s 32M disk.img
             printf password >password
             cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 \
                 --pbkdf-force-iterations 1000 disk.img password",
        ])
        .current_dir(setting.servers.path(""))
        .output()?;
    ensure!(output.status.success(), "{output:?}");

    let first = boot(&setting, Settings::Empty, &[ENROL, UNLOCK, WRITE])?;
    assert_eq!(after(&first, "enrolled: ")?, "0", "{first:#?}");
    assert_eq!(after(&first, "unlocked: ")?, "0", "{first:#?}");

    let second = boot(&setting, Settings::Empty, &[UNLOCK, READ])?;
    assert_eq!(after(&second, "unlocked: ")?, "0", "{second:#?}");
    assert_eq!(after(&second, "content: ")?, "kept on the disk");

    let third = boot(&setting, Settings::SecureBootKeys, &[UNLOCK])?;
    assert_ne!(after(&third, "unlocked: ")?, "0", "{third:#?}");
    // Not for want of a TPM.
    let mut lines = third.iter();
    assert!(!lines.any(|line| line.contains("Failed to initialize TCTI context")));
    Ok(())
}
