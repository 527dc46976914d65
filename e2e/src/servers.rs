//! The key broker and the proxy, as their own processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::guest::Guest;
use crate::process::Process;
use crate::{KEY, tree};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A running `kbs-test`.
pub struct Kbs {
    process: Process,
    url: String,
}

impl Kbs {
    /// Starts one that takes sample evidence and releases `secret` (hex), on a port
    /// that the system chooses.
    pub fn start(secret: &str, more: &[&str]) -> Result<Self> {
        Self::start_process(
            Command::new(tree::built("kbs-test"))
                .args(["--listen", "127.0.0.1:0", "--allow-sample", "--secret"])
                .arg(secret)
                .args(more),
        )
    }

    fn start_process(command: &mut Command) -> Result<Self> {
        let process = Process::start("kbs-test", command)?;
        let url = process.wait_for(START_LIMIT, |line| {
            let (_, address) = line.split_once("http://")?;
            let end = address
                .find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)))
                .unwrap_or(address.len());
            Some(format!("http://{}", &address[..end]))
        })?;
        Ok(Self { process, url })
    }

    /// Starts one that serves the volumes of a database, at `address`.
    pub fn serve(db: &Path, address: &str, more: &[&str]) -> Result<Self> {
        Self::start_process(
            Command::new(tree::built("kbs-test"))
                .args(["serve", "--listen", address, "--db"])
                .arg(db)
                .args(more),
        )
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it said so far, joined.
    pub fn log(&self) -> String {
        joined(&self.process)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

/// Runs a subcommand of `kbs-test` that changes or shows a database; returns what it
/// prints.
pub fn kbs_admin(arguments: &[&str]) -> Result<String> {
    let output = Command::new(tree::built("kbs-test"))
        .args(arguments)
        .output()?;
    ensure!(
        output.status.success(),
        "kbs-test {arguments:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A running `aproxy`.
pub struct Proxy {
    process: Process,
    socket: PathBuf,
}

impl Proxy {
    /// Starts one in front of the server at `url`, listening on a socket in `dir`.
    pub fn start(dir: &Path, url: &str) -> Result<Self> {
        let socket = dir.join("aproxy.sock");
        let mut process = Process::start(
            "aproxy",
            Command::new(tree::built("aproxy"))
                .args(["--protocol", "kbs-test", "--url", url, "--unix"])
                .arg(&socket)
                .arg("--force"),
        )?;
        let deadline = Instant::now() + START_LIMIT;
        while !socket.exists() {
            ensure!(
                process.is_running() && Instant::now() < deadline,
                "aproxy does not listen; it said:\n{}",
                joined(&process)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { process, socket })
    }

    /// The socket for `launch_guest.sh --aproxy`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it said so far, joined.
    pub fn log(&self) -> String {
        joined(&self.process)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

fn joined(process: &Process) -> String {
    let lines: Vec<_> = process.lines().into_iter().map(|l| l.text).collect();
    lines.join("\n")
}

/// A directory of the test's own with a key broker and a proxy that work.
pub struct Servers {
    /// The key broker; releases [`KEY`] unless started otherwise.
    pub kbs: Kbs,
    /// The proxy in front of it.
    pub proxy: Proxy,
    dir: TempDir,
}

impl Servers {
    /// Starts both, the key broker with [`KEY`].
    pub fn start() -> Result<Self> {
        Self::start_with(KEY, &[])
    }

    /// Starts both, the key broker with `secret` (hex) and more arguments.
    pub fn start_with(secret: &str, kbs_args: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let kbs = Kbs::start(secret, kbs_args)?;
        let proxy = Proxy::start(dir.path(), kbs.url())?;
        Ok(Self { kbs, proxy, dir })
    }

    /// A path in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A guest that talks to this proxy.
    pub fn guest(&self) -> Guest {
        Guest::new().proxy(self.proxy.socket())
    }
}
