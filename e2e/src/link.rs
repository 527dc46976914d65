//! A booted SVSM that serves calls over COM4.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::guest::{Boot, Guest};
use crate::process::Process;
use crate::tpm::{TpmServer, TpmSocket, run};
use crate::tree;

/// Longest time until the SVSM serves. It makes its endorsement key in the first boot.
const SERVE_LIMIT: Duration = Duration::from_secs(180);

/// Longest life of such a guest, in seconds.
const GUEST_LIMIT: u64 = 900;

/// Longest time for the guest's end after it was asked for.
const END_LIMIT: Duration = Duration::from_secs(60);

/// The kernel that serves calls.
pub const KERNEL: &str = "svsm-guestlink.elf";

/// A guest that serves.
pub struct Serving {
    process: Process,
    dir: PathBuf,
}

impl Serving {
    /// Starts `guest` with the kernel that serves calls, and waits until it does. The
    /// link's socket and what clients leave behind are in `dir`.
    pub fn start(guest: Guest, dir: &Path) -> Result<Self> {
        Self::start_kernel(KERNEL, guest, dir)
    }

    /// The same with another kernel that serves calls.
    pub fn start_kernel(kernel: &str, guest: Guest, dir: &Path) -> Result<Self> {
        let process = Self::launch(kernel, &guest, dir)?;
        process.wait_for(SERVE_LIMIT, |line| {
            line.contains("guest link: serving calls on COM4")
                .then_some(())
        })?;
        Ok(Self {
            process,
            dir: dir.to_owned(),
        })
    }

    /// Starts such a guest and waits for nothing.
    pub fn launch(kernel: &str, guest: &Guest, dir: &Path) -> Result<Process> {
        let socket = dir.join("link.sock");
        // An earlier guest's.
        let _ = std::fs::remove_file(&socket);
        guest
            .clone()
            .option("--kernel")
            .option(tree::built(kernel))
            .option("--guestlink")
            .option(&socket)
            .option("--timeout")
            .option(GUEST_LIMIT.to_string())
            .start()
    }

    /// The socket of the link.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("link.sock")
    }

    /// A path in the directory that clients run in.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What the guest said so far, joined.
    pub fn log(&self) -> String {
        let lines: Vec<_> = self.process.lines().into_iter().map(|l| l.text).collect();
        lines.join("\n")
    }

    /// Runs `guestlink` with these arguments; its output when it succeeds.
    pub fn guestlink(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(tree::built("guestlink"));
        command.arg("--link").arg(self.socket()).args(arguments);
        run(&mut command, &self.dir)
    }

    /// Starts `guestlink tpm` for tpm2-tools.
    pub fn tpm(&self) -> Result<TpmServer> {
        TpmServer::start(&self.socket(), &self.dir)
    }

    /// Starts `guestlink tpm` for QEMU's `-tpmdev emulator`.
    pub fn tpm_for_qemu(&self) -> Result<TpmSocket> {
        TpmSocket::start(&self.socket(), &self.dir)
    }

    /// Asks the SVSM to stop, and waits until it has.
    pub fn shut_down(self) -> Result<Boot> {
        self.guestlink(&["shutdown"])?;
        let (status, lines) = self.process.wait(END_LIMIT)?;
        let status = status.code().context("launch_guest.sh was killed")?;
        Ok(Boot { status, lines })
    }

    /// Pulls the plug, and returns what the guest had said.
    pub fn kill(self) -> Result<Boot> {
        let lines = self.process.kill()?;
        Ok(Boot { status: 3, lines })
    }
}

/// A host that sends what it likes over the link.
pub struct RawLink(UnixStream);

impl RawLink {
    /// Connects to the socket of a serving guest.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(stream))
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes)?)
    }

    /// What comes back until the line is silent for `silence`.
    pub fn receive(&mut self, silence: Duration) -> Result<Vec<u8>> {
        let mut received = Vec::new();
        let mut last = Instant::now();
        let mut buffer = [0; 4096];
        while last.elapsed() < silence {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    received.extend_from_slice(&buffer[..count]);
                    last = Instant::now();
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(received)
    }
}
