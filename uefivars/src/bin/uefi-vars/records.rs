//! Where the records are: files in a directory, or in a CocoonFs image by way of the
//! `cocoonfs` tool. All records are replaced at once, so a tool that is interrupted leaves
//! what was there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

/// Records by index.
pub type Records = BTreeMap<u32, Vec<u8>>;

/// Of the UEFI variables; an inode is namespace and index, 32 bits each.
const NAMESPACE: u64 = 2;
const SUFFIX: &str = "uefivar";

#[derive(Args)]
pub struct Place {
    /// A directory with a file for each record
    #[arg(long, conflicts_with_all = ["image", "key", "key_file"])]
    dir: Option<PathBuf>,
    /// A formatted CocoonFs image
    #[arg(long)]
    image: Option<PathBuf>,
    /// Key of the image, hexadecimal; seen by whoever lists processes
    #[arg(long, requires = "image")]
    key: Option<String>,
    /// File with the key of the image, binary
    #[arg(long, requires = "image", conflicts_with = "key")]
    key_file: Option<PathBuf>,
    /// The `cocoonfs` tool (crate cocoonfs-cli)
    #[arg(long, default_value = "cocoonfs", env = "COCOONFS_CLI")]
    cocoonfs: PathBuf,
}

impl Place {
    pub fn load(&self) -> Result<Records> {
        match (&self.dir, &self.image) {
            (Some(dir), _) => load_dir(dir),
            (None, Some(image)) => self.load_image(image),
            (None, None) => bail!("--dir or --image is needed"),
        }
    }

    /// Replaces `before` by `after`.
    pub fn store(&self, before: &Records, after: &Records) -> Result<()> {
        match (&self.dir, &self.image) {
            (Some(dir), _) => store_dir(dir, after),
            (None, Some(image)) => self.store_image(image, before, after),
            (None, None) => bail!("--dir or --image is needed"),
        }
    }

    fn tool(&self, image: &Path, command: &str, rest: &[&OsStr]) -> Result<Vec<u8>> {
        let mut tool = Command::new(&self.cocoonfs);
        tool.arg("-i").arg(image).arg("-f").arg(command);
        match (&self.key, &self.key_file) {
            (Some(key), _) => tool.arg("-K").arg(key),
            (None, Some(file)) => tool.arg("-k").arg(file),
            (None, None) => bail!("--key or --key-file is needed with --image"),
        };
        let output = tool.args(rest).output().with_context(|| {
            format!(
                "cannot start {}; it is in the crate cocoonfs-cli",
                self.cocoonfs.display()
            )
        })?;
        ensure!(
            output.status.success(),
            "cocoonfs {command}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output.stdout)
    }

    fn load_image(&self, image: &Path) -> Result<Records> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("record");
        let list = self.tool(image, "list-files", &[])?;
        let mut records = Records::new();
        for line in String::from_utf8_lossy(&list).lines() {
            let Some(inode) = line.split_whitespace().next() else {
                continue;
            };
            let inode: u64 = inode
                .parse()
                .with_context(|| format!("cocoonfs list-files: {line:?}"))?;
            if inode >> 32 != NAMESPACE {
                continue;
            }
            let text = inode.to_string();
            self.tool(
                image,
                "read-file",
                &[text.as_ref(), "-o".as_ref(), file.as_ref()],
            )?;
            records.insert(inode as u32, fs::read(&file)?);
        }
        Ok(records)
    }

    /// Works on a copy, which then takes the place of the image.
    fn store_image(&self, image: &Path, before: &Records, after: &Records) -> Result<()> {
        let dir = tempfile::tempdir_in(parent(image))?;
        let copy = dir.path().join("image");
        fs::copy(image, &copy).with_context(|| format!("cannot copy {}", image.display()))?;
        let input = dir.path().join("record");
        let inode = |index: &u32| (NAMESPACE << 32 | u64::from(*index)).to_string();
        for index in before.keys().filter(|index| !after.contains_key(index)) {
            self.tool(&copy, "remove-file", &[inode(index).as_ref()])?;
        }
        for (index, bytes) in after {
            if before.get(index) == Some(bytes) {
                continue;
            }
            fs::write(&input, bytes)?;
            self.tool(
                &copy,
                "write-file",
                &[inode(index).as_ref(), "-i".as_ref(), input.as_ref()],
            )?;
        }
        ensure!(
            self.load_image(&copy)? == *after,
            "the image does not read back as it was written; it is unchanged"
        );
        File::open(&copy)?.sync_all()?;
        fs::rename(&copy, image).with_context(|| format!("cannot replace {}", image.display()))?;
        sync(parent(image))
    }
}

fn load_dir(dir: &Path) -> Result<Records> {
    let mut records = Records::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(records),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension() != Some(SUFFIX.as_ref()) {
            continue;
        }
        let index = path
            .file_stem()
            .and_then(OsStr::to_str)
            .and_then(|stem| stem.parse().ok())
            .with_context(|| format!("{} is not named after a record", path.display()))?;
        records.insert(index, fs::read(&path)?);
    }
    Ok(records)
}

/// Writes a new directory beside the old one, and changes the two over.
fn store_dir(dir: &Path, records: &Records) -> Result<()> {
    let new = tempfile::tempdir_in(parent(dir))?;
    for (index, bytes) in records {
        let path = new.path().join(format!("{index}.{SUFFIX}"));
        fs::write(&path, bytes)?;
        File::open(&path)?.sync_all()?;
    }
    sync(new.path())?;
    let old = tempfile::tempdir_in(parent(dir))?;
    let aside = old.path().join("records");
    if dir.exists() {
        fs::rename(dir, &aside).with_context(|| format!("cannot move {}", dir.display()))?;
    }
    if let Err(error) = fs::rename(new.path(), dir) {
        let kept = old.keep();
        bail!(
            "{}: {error}; the records are in {}",
            dir.display(),
            kept.display()
        );
    }
    // It has moved away; there is nothing to clean up.
    let _ = new.keep();
    sync(parent(dir))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn sync(dir: &Path) -> Result<()> {
    Ok(File::open(dir)?.sync_all()?)
}
