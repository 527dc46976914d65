//! A boot of the SVSM in QEMU, and what can be said about it afterwards.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Line, Process};
use crate::tree;

/// Longest time a boot may take, in seconds. Under TCG beside another one it takes
/// a few; the rest is for busy machines.
const BOOT_LIMIT: u64 = 120;

/// A block device of the guest.
#[derive(Clone, Debug)]
pub struct Disk {
    image: PathBuf,
    drive: String,
    device: String,
}

impl Disk {
    /// The image as it is.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            drive: String::new(),
            device: String::new(),
        }
    }

    /// Refuses writes.
    pub fn read_only(mut self) -> Self {
        self.drive.push_str(",readonly=on");
        self
    }

    /// Announces logical and physical blocks of `size` bytes.
    pub fn block_size(mut self, size: u32) -> Self {
        self.device.push_str(&format!(
            ",logical_block_size={size},physical_block_size={size}"
        ));
        self
    }

    /// Answers every request of a kind (QEMU's blkdebug event, such as `read_aio`
    /// or `write_aio`) with an I/O error.
    pub fn failing(mut self, event: &str) -> Self {
        self.drive.push_str(&format!(
            ",file.inject-error.0.event={event},file.inject-error.0.errno=5,\
             file.inject-error.0.once=off,rerror=report,werror=report"
        ));
        self
    }

    fn is_plain(&self) -> bool {
        self.drive.is_empty() && self.device.is_empty()
    }

    /// QEMU's arguments for this disk as number `n`.
    fn arguments(&self, n: usize) -> [String; 4] {
        let image = self.image.display();
        let file = if self.drive.contains("inject-error") {
            format!(
                "driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={image}"
            )
        } else {
            format!("format=raw,file={image}")
        };
        [
            "-drive".into(),
            format!("{file},if=none,id=disk{n}{}", self.drive),
            "-device".into(),
            format!(
                "virtio-blk-device,drive=disk{n},bus=virtio-mmio-bus.{n}{}",
                self.device
            ),
        ]
    }
}

/// A guest to be started.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    proxy: Option<PathBuf>,
    disks: Vec<Disk>,
    options: Vec<OsString>,
    extra: Vec<OsString>,
}

impl Guest {
    /// One without disks and with nothing on COM3.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects COM3 to a socket.
    pub fn proxy(mut self, socket: &Path) -> Self {
        self.proxy = Some(socket.to_owned());
        self
    }

    /// Attaches one more disk; the order is kept.
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Attaches one more image as it is; the order is kept.
    pub fn image(self, image: impl Into<PathBuf>) -> Self {
        self.disk(Disk::new(image))
    }

    /// One more option of `launch_guest.sh`.
    pub fn option(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Shortens the SVSM's waits for the proxy to at most `seconds`.
    pub fn patience(self, seconds: u32) -> Self {
        self.option("--patience").option(seconds.to_string())
    }

    /// One more argument for QEMU.
    pub fn qemu(mut self, argument: impl Into<OsString>) -> Self {
        self.extra.push(argument.into());
        self
    }

    /// Starts it.
    pub fn start(&self) -> Result<Process> {
        tree::built("svsm-native.elf");
        let mut command = Command::new(tree::script("launch_guest.sh"));
        command
            .args(["--native", "--timeout", &BOOT_LIMIT.to_string()])
            .args(&self.options);
        if let Some(socket) = &self.proxy {
            command.arg("--aproxy").arg(socket);
        }
        // The script knows plain images only; where there is another kind, all are
        // handed to QEMU here, so that the order stays.
        let plain = self.disks.iter().all(Disk::is_plain);
        if plain {
            for disk in &self.disks {
                command.arg("--state").arg(&disk.image);
            }
        }
        command.arg("--").args(&self.extra);
        if !plain {
            for (n, disk) in self.disks.iter().enumerate() {
                command.args(disk.arguments(n));
            }
        }
        Process::start("launch_guest.sh", &mut command)
    }

    /// Starts it and waits for its end.
    pub fn boot(&self) -> Result<Boot> {
        let (status, lines) = self.start()?.wait(Duration::from_secs(BOOT_LIMIT + 20))?;
        let status = status.code().context("launch_guest.sh was killed")?;
        Ok(Boot { status, lines })
    }
}

/// A boot that is over.
#[derive(Debug)]
pub struct Boot {
    /// Status of `launch_guest.sh`: 0 complete, 1 stopped with a message, 2 panic or
    /// exception, 124 time-out.
    pub status: i32,
    /// The console, and what the script itself said.
    pub lines: Vec<Line>,
}

impl Boot {
    /// The whole log.
    pub fn log(&self) -> String {
        let lines: Vec<_> = self.lines.iter().map(|l| l.text.as_str()).collect();
        lines.join("\n")
    }

    /// Whether a line contains `text`.
    pub fn says(&self, text: &str) -> bool {
        self.lines.iter().any(|l| l.text.contains(text))
    }

    /// When the first line that contains `text` came.
    pub fn time_of(&self, text: &str) -> Option<Duration> {
        self.lines
            .iter()
            .find(|l| l.text.contains(text))
            .map(|l| l.at)
    }

    /// # Panics
    /// Unless the log has a line containing each of `texts`, in this order.
    #[track_caller]
    pub fn assert_says(&self, texts: &[&str]) {
        let mut lines = self.lines.iter();
        for text in texts {
            assert!(
                lines.any(|l| l.text.contains(text)),
                "no line {text:?} (in its place in {texts:?}); status {}; the log:\n{}",
                self.status,
                self.log()
            );
        }
    }

    /// # Panics
    /// When a line contains `text`.
    #[track_caller]
    pub fn assert_never_says(&self, text: &str) {
        assert!(!self.says(text), "{text:?} in the log:\n{}", self.log());
    }

    /// # Panics
    /// Unless the boot sequence completed, and nothing was an error on the way.
    #[track_caller]
    pub fn assert_complete(&self) {
        assert_eq!(self.status, 0, "the log:\n{}", self.log());
        self.assert_never_says("[SVSM] ERROR");
    }

    /// # Panics
    /// Unless the boot was stopped in good order, with exactly one error line and
    /// that one containing `message`.
    #[track_caller]
    pub fn assert_stopped(&self, message: &str) {
        assert_eq!(self.status, 1, "the log:\n{}", self.log());
        let errors: Vec<_> = self
            .lines
            .iter()
            .map(|l| l.text.as_str())
            .filter(|l| l.contains("[SVSM] ERROR"))
            .collect();
        assert!(
            matches!(errors[..], [error] if error.contains(message)),
            "expected one error with {message:?}; the log:\n{}",
            self.log()
        );
    }
}
