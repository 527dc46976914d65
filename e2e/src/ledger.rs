//! A key broker whose database outlives it, with one volume whose disk is followed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::guest::Guest;
use crate::servers::{Kbs, Proxy};
use crate::{KEY, image};

/// Name of the volume.
pub const VOLUME: &str = "default/sample/test";

/// Servers and a disk.
pub struct Ledger {
    /// The key broker; restart it with [`restart`](Self::restart).
    pub kbs: Option<Kbs>,
    /// The proxy in front of it.
    pub proxy: Proxy,
    dir: TempDir,
}

impl Ledger {
    /// Registers the volume with `mode` (off, boot or commit) and more arguments for
    /// `kbs-test register`, and starts the servers.
    pub fn start(mode: &str, register: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let db = dir.path().join("kbs.db");
        let mut arguments = vec!["register", VOLUME];
        arguments.extend(["--secret", KEY, "--any-measurement", "--allow-sample"]);
        arguments.extend(["--ledger", mode]);
        arguments.extend(register);
        Kbs::owner(&db, &arguments)?;
        let kbs = Kbs::serve(&db, &[])?;
        let proxy = Proxy::start(dir.path(), kbs.url())?;
        let ledger = Self {
            kbs: Some(kbs),
            proxy,
            dir,
        };
        image::creation_header(&ledger.disk())?;
        Ok(ledger)
    }

    /// Ends the key broker, does `between` to its database, and starts it again at the
    /// same address.
    pub fn restart(
        &mut self,
        between: impl FnOnce(&Self) -> Result<()>,
        more: &[&str],
    ) -> Result<()> {
        let kbs = self.kbs.take().context("there is a key broker")?;
        let address = kbs.url().trim_start_matches("http://").to_owned();
        drop(kbs);
        between(self)?;
        self.kbs = Some(Kbs::serve_at(&address, &self.path("kbs.db"), more)?);
        Ok(())
    }

    /// Carries out an owner's command on the database.
    pub fn admin(&self, arguments: &[&str]) -> Result<String> {
        Kbs::owner(&self.path("kbs.db"), arguments)
    }

    /// Where the key broker listens.
    pub fn url(&self) -> Result<&str> {
        Ok(self.kbs.as_ref().context("the key broker runs")?.url())
    }

    /// A path in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The image of the volume.
    pub fn disk(&self) -> PathBuf {
        self.path("state.img")
    }

    /// A guest on `disk` behind the proxy.
    pub fn guest_on(&self, disk: &Path) -> Guest {
        Guest::new().proxy(self.proxy.socket()).image(disk)
    }

    /// A guest on the volume.
    pub fn guest(&self) -> Guest {
        self.guest_on(&self.disk())
    }

    /// A copy of the volume as it is now.
    pub fn copy(&self, name: &str) -> Result<PathBuf> {
        let copy = self.path(name);
        std::fs::copy(self.disk(), &copy)?;
        Ok(copy)
    }
}
