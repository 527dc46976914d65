//! Archives that Linux unpacks into its first root file system (cpio, "newc").

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

const DIRECTORY: u32 = 0o04_0755;
const PROGRAM: u32 = 0o10_0755;
const LINK: u32 = 0o12_0777;
const CHARACTER_DEVICE: u32 = 0o02_0600;

/// Directories that are links to those of the same name in /usr.
const MERGED: [&str; 2] = ["lib", "lib64"];

/// An archive in the making.
#[derive(Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
    names: Vec<String>,
}

impl Initramfs {
    /// With `/init`, a script for `/bin/busybox`, and the console that it writes to.
    pub fn new(busybox: &Path, init: &str) -> Result<Self> {
        let mut archive = Self::default();
        archive.entry("dev", DIRECTORY, (0, 0), &[])?;
        archive.entry("dev/console", CHARACTER_DEVICE, (5, 1), &[])?;
        archive.file("bin/busybox", busybox)?;
        // As everywhere by now: whatever looks for libraries in either finds them.
        for merged in MERGED {
            archive.entry(merged, LINK, (0, 0), format!("usr/{merged}").as_bytes())?;
        }
        archive.entry("init", PROGRAM, (0, 0), init.as_bytes())?;
        Ok(archive)
    }

    /// One more file, with the directories that it is in. `name` has no leading slash.
    pub fn file(&mut self, name: &str, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| from.display().to_string())?;
        for (at, _) in name.match_indices('/') {
            if self.is_new(&name[..at]) {
                self.entry(&name[..at], DIRECTORY, (0, 0), &[])?;
            }
        }
        if self.is_new(name) {
            self.entry(name, PROGRAM, (0, 0), &content)?;
        }
        Ok(())
    }

    /// A program or library of this machine, in its place, with the libraries it needs.
    pub fn program(&mut self, path: &Path) -> Result<()> {
        let output = Command::new("ldd").arg(path).output()?;
        ensure!(output.status.success(), "ldd {}", path.display());
        let said = String::from_utf8(output.stdout)?;
        let libraries = said.split_whitespace().filter(|word| word.starts_with('/'));
        for file in libraries.map(Path::new).chain([path]) {
            let name = file.strip_prefix("/")?.to_str().context("UTF-8")?;
            if MERGED
                .iter()
                .any(|merged| Path::new(name).starts_with(merged))
            {
                self.file(&format!("usr/{name}"), file)?;
            } else {
                self.file(name, file)?;
            }
        }
        Ok(())
    }

    /// Writes the archive to a file.
    pub fn write(mut self, to: &Path) -> Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(fs::write(to, self.bytes)?)
    }

    fn is_new(&mut self, name: &str) -> bool {
        let is_new = !self.names.iter().any(|known| known == name);
        if is_new {
            self.names.push(name.to_owned());
        }
        is_new
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len())?;
        let name_size = u32::try_from(name.len() + 1)?;
        self.bytes.extend(b"070701");
        // Inode, mode, user, group, links, time, size, device (major, minor), the device
        // that it is, size of the name, no checksum.
        for field in [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
