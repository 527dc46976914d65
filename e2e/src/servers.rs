//! The key broker and the proxy, as their own processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
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
        Self::launch(
            "127.0.0.1:0",
            &[&["--allow-sample", "--secret", secret], more].concat(),
        )
    }

    /// Starts one for the volumes in the database `db`.
    pub fn serve(db: &Path, more: &[&str]) -> Result<Self> {
        Self::serve_at("127.0.0.1:0", db, more)
    }

    /// The same at an address and port of the caller's.
    pub fn serve_at(address: &str, db: &Path, more: &[&str]) -> Result<Self> {
        Self::launch(address, &[&["--db", path_text(db)?], more].concat())
    }

    fn launch(address: &str, args: &[&str]) -> Result<Self> {
        let process = Process::start(
            "kbs-test",
            Command::new(tree::built("kbs-test"))
                .args(["--listen", address])
                .args(args),
        )?;
        let url = process.wait_for(START_LIMIT, |line| {
            let (_, address) = line.split_once("http://")?;
            let end = address
                .find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)))
                .unwrap_or(address.len());
            Some(format!("http://{}", &address[..end]))
        })?;
        Ok(Self { process, url })
    }

    /// Carries out an owner's command on the database `db`, which a server may have
    /// open; its standard output.
    pub fn owner(db: &Path, args: &[&str]) -> Result<String> {
        let output = Command::new(tree::built("kbs-test"))
            .args(args)
            .args(["--db", path_text(db)?])
            .output()?;
        ensure!(
            output.status.success(),
            "kbs-test {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
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

/// A running `aproxy`.
pub struct Proxy {
    process: Process,
    socket: PathBuf,
}

impl Proxy {
    /// Starts one in front of the server at `url`, listening on a socket in `dir`.
    pub fn start(dir: &Path, url: &str) -> Result<Self> {
        Self::start_for("kbs-test", dir, url)
    }

    /// The same with aproxy's word for the kind of server.
    pub fn start_for(protocol: &str, dir: &Path, url: &str) -> Result<Self> {
        let socket = dir.join("aproxy.sock");
        let mut process = Process::start(
            "aproxy",
            Command::new(tree::built("aproxy"))
                .args(["--protocol", protocol, "--url", url, "--unix"])
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

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
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
