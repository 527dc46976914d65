//! CocoonFs images, made with the published `cocoonfs` tool, and things that are
//! no CocoonFs image.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tree;

/// Size of the images the tests use, in bytes.
pub const SIZE: u64 = 8 << 20;

/// The layout that the project's scripts use; `scripts/demo.sh` has the same. The tool
/// doubles a size without a unit.
const LAYOUT: [&str; 8] = [
    "--allocation-block-size",
    "512B",
    "--io-block-size",
    "512B",
    "--auth-tree-data-block-size",
    "512B",
    "--auth-tree-node-size",
    "1K",
];

/// Algorithms, salt and size of every image.
const KIND: [&str; 10] = [
    "-H", "sha2", "-C", "aes", "-t", "128", "-I", "ddeeff", "-s", "8M",
];

fn cocoonfs(image: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(tree::tool("cocoonfs"))
        .arg("-i")
        .arg(image)
        .arg("-f")
        .args(args)
        .output()
        .context("cannot start cocoonfs")?;
    ensure!(
        output.status.success(),
        "cocoonfs {args:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes an image that carries a creation header: the SVSM formats it.
pub fn creation_header(image: &Path) -> Result<()> {
    write_header(image, &LAYOUT)
}

/// The same for a device with 4 KiB blocks.
pub fn creation_header_4k(image: &Path) -> Result<()> {
    write_header(
        image,
        &[
            "--allocation-block-size",
            "512B",
            "--io-block-size",
            "4K",
            "--auth-tree-data-block-size",
            "512B",
            "--auth-tree-node-size",
            "4K",
        ],
    )
}

fn write_header(image: &Path, layout: &[&str]) -> Result<()> {
    let mut args = vec!["write-mkfs-info-header"];
    args.extend(KIND);
    args.extend(layout);
    cocoonfs(image, &args)?;
    Ok(())
}

/// Writes an image formatted under `key` (hex).
pub fn formatted(image: &Path, key: &str) -> Result<()> {
    let mut args = vec!["mkfs"];
    args.extend(KIND);
    args.extend(["-K", key]);
    args.extend(LAYOUT);
    cocoonfs(image, &args)?;
    Ok(())
}

/// The inodes on an image formatted under `key`, as the tool lists them.
pub fn inodes(image: &Path, key: &str) -> Result<Vec<u64>> {
    cocoonfs(image, &["list-files", "-K", key])?
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(|inode| inode.parse().with_context(|| format!("inode {inode:?}")))
        .collect()
}

/// The content of a file on an image formatted under `key`.
pub fn read_file(image: &Path, key: &str, inode: u64) -> Result<Vec<u8>> {
    let out = image.with_extension("file");
    let out_name = out.to_str().context("path is not UTF-8")?;
    cocoonfs(
        image,
        &["read-file", "-K", key, &inode.to_string(), "-o", out_name],
    )?;
    Ok(fs::read(&out)?)
}

/// Writes a file of an image formatted under `key`.
pub fn write_file(image: &Path, key: &str, inode: u64, content: &[u8]) -> Result<()> {
    let input = image.with_extension("file");
    fs::write(&input, content)?;
    let input = input.to_str().context("path is not UTF-8")?;
    cocoonfs(
        image,
        &["write-file", "-K", key, &inode.to_string(), "-i", input],
    )?;
    Ok(())
}

/// Has `vtpm-state` manufacture a TPM in the directory `state`.
pub fn make_tpm(state: &Path) -> Result<()> {
    fs::create_dir(state)?;
    vtpm_state(&["make".as_ref(), state.as_os_str()])
}

/// Brings the TPM whose state is in the directory `state` into an image formatted under
/// `key`: its records become the files of the vTPM's namespace.
pub fn import_tpm(image: &Path, key: &str, state: &Path) -> Result<()> {
    let records = state.with_extension("records");
    vtpm_state(&[
        "export".as_ref(),
        "--records".as_ref(),
        state.as_os_str(),
        records.as_os_str(),
    ])?;
    for record in fs::read_dir(&records)? {
        let record = record?;
        let name = record.file_name();
        let number = u32::from_str_radix(&name.to_string_lossy(), 16)?;
        let inode = (1 << 32) | u64::from(number);
        write_file(image, key, inode, &fs::read(record.path())?)?;
    }
    Ok(())
}

fn vtpm_state(arguments: &[&OsStr]) -> Result<()> {
    let output = Command::new(tree::built("vtpm-state"))
        .args(arguments)
        .output()?;
    ensure!(
        output.status.success(),
        "vtpm-state {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Writes an image of zeros.
pub fn blank(image: &Path) -> Result<()> {
    File::create(image)?.set_len(SIZE)?;
    Ok(())
}

/// Writes what an ext4 file system begins with: 1 KiB for a boot loader, then a
/// superblock with its magic number 0xef53 at offset 0x38.
pub fn foreign(image: &Path) -> Result<()> {
    blank(image)?;
    let file = File::options().write(true).open(image)?;
    file.write_all_at(b"\xeb\x63\x90 some boot loader", 0)?;
    file.write_all_at(&[0x5a; 1024], 1024)?;
    file.write_all_at(&[0x53, 0xef], 1024 + 0x38)?;
    file.write_all_at(b"a volume of somebody else", 1024 + 0x78)?;
    Ok(())
}

/// Cuts an image off after `size` bytes.
pub fn truncate(image: &Path, size: u64) -> Result<()> {
    File::options().write(true).open(image)?.set_len(size)?;
    Ok(())
}
