//! A booted SVSM that serves calls over COM4, and the real clients of its services.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::guest::{Boot, Guest};
use crate::process::Process;
use crate::tree;

/// Longest time until the SVSM serves. It makes its endorsement key in the first boot.
const SERVE_LIMIT: Duration = Duration::from_secs(180);

/// Longest life of such a guest, in seconds.
const GUEST_LIMIT: u64 = 900;

/// Longest time for the guest's end after it was asked for.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A guest that serves.
pub struct Serving {
    process: Process,
    dir: PathBuf,
}

impl Serving {
    /// Starts `guest` with the kernel that serves calls, and waits until it does. The
    /// link's socket and what clients leave behind are in `dir`.
    pub fn start(guest: Guest, dir: &Path) -> Result<Self> {
        let socket = dir.join("link.sock");
        // An earlier guest's.
        let _ = std::fs::remove_file(&socket);
        let process = guest
            .option("--kernel")
            .option(tree::built("svsm-guestlink.elf"))
            .option("--guestlink")
            .option(&socket)
            .option("--timeout")
            .option(GUEST_LIMIT.to_string())
            .start()?;
        process.wait_for(SERVE_LIMIT, |line| {
            line.contains("guest link: serving calls on COM4")
                .then_some(())
        })?;
        Ok(Self {
            process,
            dir: dir.to_owned(),
        })
    }

    /// The socket of the link.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("link.sock")
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

/// `guestlink tpm` on a port of its own.
pub struct TpmServer {
    process: Process,
    port: u16,
    dir: PathBuf,
}

impl TpmServer {
    fn start(link: &Path, dir: &Path) -> Result<Self> {
        // The control channel is on the next port: clients take that for granted.
        for _ in 0..20 {
            let port = free_pair()?;
            let address = |port| format!("{}:{port}", Ipv4Addr::LOCALHOST);
            let mut command = Command::new(tree::built("guestlink"));
            command
                .arg("--link")
                .arg(link)
                .args(["tpm", "--tcp", &address(port)])
                .args(["--ctrl", &address(port + 1)]);
            let mut process = Process::start("guestlink tpm", &mut command)?;
            let up = process.wait_for(Duration::from_secs(30), |line| {
                line.contains("serving the vTPM").then_some(())
            });
            if up.is_ok() {
                return Ok(Self {
                    process,
                    port,
                    dir: dir.to_owned(),
                });
            }
            // Somebody else may have taken the port in between.
            ensure!(!process.is_running(), "{:?}", up.err());
            let said: Vec<_> = process.lines().into_iter().map(|l| l.text).collect();
            let said = said.join("\n");
            if !said.contains("in use") {
                bail!("guestlink tpm does not start: {said}");
            }
        }
        bail!("no two free ports side by side")
    }

    /// Runs a program of tpm2-tools in the test's directory; its output when it succeeds.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env(
                "TPM2TOOLS_TCTI",
                format!("swtpm:host=127.0.0.1,port={}", self.port),
            )
            .env("TSS2_LOG", "all+NONE");
        run(&mut command, &self.dir)
    }

    /// The same for a line such as `tpm2_getrandom --hex 8`.
    pub fn line(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty line")?;
        self.tool(program, &words.collect::<Vec<_>>())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

/// Runs to its end in `dir`; an error names what was said.
fn run(command: &mut Command, dir: &Path) -> Result<String> {
    let output = command
        .current_dir(dir)
        .output()
        .with_context(|| format!("cannot start {command:?}; scripts/setup.sh installs it"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A port that is free together with the next one.
fn free_pair() -> Result<u16> {
    for _ in 0..100 {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        if let Some(next) = port.checked_add(1)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, next)).is_ok()
        {
            return Ok(port);
        }
    }
    bail!("no two free ports side by side")
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
