//! A second machine, with ordinary firmware and Linux, whose TPM is the one in the SVSM.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Process;
use crate::tree;

/// Longest time from its start to its end.
const LIMIT: Duration = Duration::from_secs(600);

/// Where distributions have OVMF with a 4 MiB flash: the code, and the directory and ending
/// of the variables.
const FIRMWARE: [[&str; 3]; 2] = [
    [
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M",
        "fd",
    ],
    [
        "/usr/share/edk2/ovmf/OVMF_CODE_4M.qcow2",
        "/usr/share/edk2/ovmf/OVMF_VARS_4M",
        "qcow2",
    ],
];

/// What the firmware's settings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settings {
    /// None yet.
    Empty,
    /// With keys for Secure Boot.
    SecureBootKeys,
}

/// A machine to be started.
pub struct Linux {
    /// The control socket of its TPM.
    pub tpm: PathBuf,
    /// QEMU's device for it.
    pub tpm_device: &'static str,
    /// Its firmware's settings.
    pub settings: Settings,
    /// Its first root file system.
    pub initramfs: PathBuf,
    /// A disk, on virtio.
    pub disk: Option<PathBuf>,
    /// Where its files are.
    pub dir: PathBuf,
}

impl Linux {
    /// Runs it until it powers itself off; its console.
    pub fn run(&self) -> Result<Vec<String>> {
        let [code, variables, ending] = FIRMWARE
            .iter()
            .find(|[code, ..]| Path::new(code).exists())
            .context("OVMF is missing: run scripts/setup.sh")?;
        let kind = match self.settings {
            Settings::Empty => "",
            Settings::SecureBootKeys => ".ms",
        };
        let own = self.dir.join("variables");
        std::fs::copy(format!("{variables}{kind}.{ending}"), &own)?;
        let format = if *ending == "fd" { "raw" } else { ending };
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-machine", "q35,accel=tcg", "-cpu", "max", "-m", "512"])
            .args(["-serial", "stdio", "-drive"])
            .arg(format!(
                "if=pflash,unit=0,format={format},readonly=on,file={code}"
            ))
            .arg("-drive")
            .arg(format!(
                "if=pflash,unit=1,format={format},file={}",
                own.display()
            ))
            .arg("-chardev")
            .arg(format!("socket,id=tpm,path={}", self.tpm.display()))
            .args(["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device"])
            .arg(format!("{},tpmdev=tpm0", self.tpm_device))
            .arg("-kernel")
            .arg(tree::guest("vmlinuz"))
            .arg("-initrd")
            .arg(&self.initramfs)
            // On a busy machine the emulated timer is late, and Linux takes it for broken.
            .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"]);
        if let Some(disk) = &self.disk {
            command.arg("-drive").arg(format!(
                "if=none,id=disk,format=raw,file={}",
                disk.display()
            ));
            command.args(["-device", "virtio-blk-pci,drive=disk"]);
        }
        let process = Process::start("qemu-system-x86_64", &mut command)?;
        let (status, lines) = process.wait(LIMIT)?;
        let lines: Vec<_> = lines.into_iter().map(|line| line.text).collect();
        ensure!(status.success(), "{status}: {}", lines.join("\n"));
        Ok(lines)
    }
}

/// What follows `mark` in the first line that has it.
pub fn after<'a>(lines: &'a [String], mark: &str) -> Result<&'a str> {
    let found = lines.iter().find_map(|line| line.split_once(mark));
    let (_, rest) = found.with_context(|| format!("no {mark:?} in\n{}", lines.join("\n")))?;
    Ok(rest.trim())
}
