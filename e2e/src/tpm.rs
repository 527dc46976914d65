//! `guestlink tpm` for the real clients of a TPM, and these clients.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::Process;
use crate::tree;

/// Longest time until a server serves.
const START_LIMIT: Duration = Duration::from_secs(30);

/// `guestlink tpm` on a port of its own.
pub struct TpmServer {
    process: Process,
    port: u16,
    dir: PathBuf,
}

impl TpmServer {
    /// Starts it on the link at `link`; what clients leave behind is in `dir`.
    pub(crate) fn start(link: &Path, dir: &Path) -> Result<Self> {
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
            let up = process.wait_for(START_LIMIT, |line| {
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

    /// How clients are told where this TPM is.
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// A program that is to find this TPM, in the test's directory.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("TPM2TOOLS_TCTI", self.tcti())
            .env("TPM2OPENSSL_TCTI", self.tcti())
            .env("TSS2_LOG", "all+NONE");
        command
    }

    /// Runs a program of tpm2-tools in the test's directory; its output when it succeeds.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program).args(arguments), &self.dir)
    }

    /// Runs lines of shell in the test's directory, up to the first that fails; their
    /// output when all succeed. `$TPM2TOOLS_TCTI` names this TPM.
    pub fn shell(&self, script: &str) -> Result<String> {
        self.tool("bash", &["-euo", "pipefail", "-c", script])
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

/// `guestlink tpm` on a control socket.
pub struct TpmSocket {
    socket: PathBuf,
    _process: Process,
}

impl TpmSocket {
    /// Starts it on the link at `link`, with its socket in `dir`.
    pub(crate) fn start(link: &Path, dir: &Path) -> Result<Self> {
        let socket = dir.join("tpm.sock");
        // An earlier one's.
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(tree::built("guestlink"));
        command.arg("--link").arg(link);
        command.args(["tpm", "--ctrl-unix"]).arg(&socket);
        let process = Process::start("guestlink tpm", &mut command)?;
        process.wait_for(START_LIMIT, |line| {
            line.contains("serving the vTPM").then_some(())
        })?;
        Ok(Self {
            socket,
            _process: process,
        })
    }

    /// The control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Runs to its end in `dir`; an error names what was said.
pub(crate) fn run(command: &mut Command, dir: &Path) -> Result<String> {
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
