//! Images are interchangeable with the published tool `cocoonfs` (crate cocoonfs-cli,
//! version 0.1.3), byte for byte, in both directions.
//!
//! The tool's path comes from `COCOONFS_CLI`, else it is looked for in `PATH`. The
//! tests are ignored by default because the tool is not part of the workspace; with
//! `--ignored`, as `make test` runs them, they fail where it is missing.

use std::path::Path;
use std::process::{Command, Output};

use svsm::block::memory::MemoryDevice;
use svsm::persistence::boot_counter::{BOOT_COUNTER, count_boot};
use svsm::persistence::{FileId, Namespace, Transaction, Volume, VolumeKey};

use crate::support::*;

const KEY_HEX: &str = "1111111111111111111111111111111111111111111111111111111111111111";

/// What the project's scripts pass for a new image. The units are not optional: the
/// tool doubles a size without one.
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

const ALGORITHMS: [&str; 8] = ["-H", "sha2", "-C", "aes", "-t", "128", "-I", "ddeeff"];

fn cocoonfs(image: &Path, args: &[&str]) -> Output {
    let tool = std::env::var_os("COCOONFS_CLI").unwrap_or_else(|| "cocoonfs".into());
    let output = Command::new(&tool)
        .arg("-i")
        .arg(image)
        .arg("-f")
        .args(args)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; install it with `cargo install cocoonfs-cli --version 0.1.3 --locked` or set COCOONFS_CLI",
                tool.display()
            )
        });
    assert!(output.status.success(), "cocoonfs {args:?}: {output:?}");
    output
}

fn read_image(image: &Path) -> MemoryDevice {
    MemoryDevice::from_bytes(std::fs::read(image).unwrap(), 512)
}

fn files() -> Vec<(FileId, Vec<u8>)> {
    [0, 1, 511, 512, 513, 16384, 100_000]
        .into_iter()
        .enumerate()
        .map(|(index, size)| {
            let namespace = [Namespace::Vtpm, Namespace::Uefi][index % 2];
            let file = FileId::new(namespace, index as u32);
            (file, pattern(index as u64, size))
        })
        .collect()
}

/// Files written by the tool are read here, then changed here and read by the tool.
fn both_directions(image: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for (file, contents) in files() {
        std::fs::write(&data, &contents).unwrap();
        let inode = file.inode().to_string();
        cocoonfs(
            image,
            &[
                "write-file",
                "-K",
                KEY_HEX,
                "-i",
                data.to_str().unwrap(),
                &inode,
            ],
        );
    }

    let device = read_image(image);
    let volume = open_device(&device, &key()).expect("opens what the tool made");
    for (file, contents) in files() {
        assert!(read(&volume, file) == Some(contents), "{file}");
    }
    let (removed, _) = files()[1];
    let (replaced, _) = files()[5];
    write(&volume, replaced, &pattern(77, 20_000)).unwrap();
    let mut transaction = Transaction::new();
    transaction.remove(removed).unwrap();
    volume.transaction(transaction).unwrap();
    count_boot(&volume).unwrap();
    drop(volume);
    std::fs::write(image, device.snapshot()).unwrap();

    let mut expected: Vec<_> = files();
    expected.remove(1);
    expected[4].1 = pattern(77, 20_000);
    expected.push((BOOT_COUNTER, 1u64.to_le_bytes().to_vec()));
    expected.sort_by_key(|(file, _)| file.inode());
    for (file, contents) in &expected {
        let inode = file.inode().to_string();
        let output = cocoonfs(image, &["read-file", "-K", KEY_HEX, &inode]);
        assert!(output.stdout == *contents, "{file}");
    }
    let listed = cocoonfs(image, &["list-files", "-K", KEY_HEX]);
    let lines: Vec<_> = expected
        .iter()
        .map(|(file, _)| format!("{} 0x00", file.inode()))
        .collect();
    assert_eq!(
        String::from_utf8(listed.stdout).unwrap().trim(),
        lines.join("\n")
    );
}

#[test]
#[ignore = "needs the tool cocoonfs; make test runs it"]
fn images_formatted_by_the_tool_are_interchangeable() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    for options in [&LAYOUT[..], &[]] {
        let mut args = vec!["mkfs"];
        args.extend(ALGORITHMS);
        args.extend(options);
        args.extend(["-s", "4M", "-K", KEY_HEX]);
        cocoonfs(&image, &args);
        both_directions(&image);
    }
}

#[test]
#[ignore = "needs the tool cocoonfs; make test runs it"]
fn creation_headers_of_the_tool_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    for options in [&LAYOUT[..], &[]] {
        let mut args = vec!["write-mkfs-info-header"];
        args.extend(ALGORITHMS);
        args.extend(options);
        args.extend(["-s", "4M"]);
        cocoonfs(&image, &args);
        let device = read_image(&image);
        let (volume, lines) = logged(|| open_device(&device, &key()));
        drop(volume.expect("formats"));
        assert_eq!(
            lines,
            [
                "block device 0: CocoonFs creation header, formatting it",
                "persistent CocoonFs storage opened successfully"
            ]
        );
        std::fs::write(&image, device.snapshot()).unwrap();
        both_directions(&image);
    }
}

#[test]
#[ignore = "needs the tool cocoonfs; make test runs it"]
fn the_documented_options_give_the_project_s_layout() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let mut args = vec!["write-mkfs-info-header"];
    args.extend(ALGORITHMS);
    args.extend(LAYOUT);
    args.extend(["-s", "1M"]);
    cocoonfs(&image, &args);
    let ours = creation_header(MIB, 512, MIB as u64, &project_layout()).snapshot();
    let theirs = std::fs::read(&image).unwrap();
    // Magic, version and layout; what follows has a checksum over auxiliary data.
    assert_eq!(theirs.len(), MIB);
    assert_eq!(theirs[..30], ours[..30]);
}

#[test]
#[ignore = "needs the tool cocoonfs; make test runs it"]
fn an_image_under_another_key_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let mut args = vec!["mkfs"];
    args.extend(ALGORITHMS);
    args.extend(["-s", "1M", "-n", "-K", KEY_HEX]);
    cocoonfs(&image, &args);
    let device = read_image(&image);
    let before = device.snapshot();
    let wrong = VolumeKey::new(&[0x12; 32]).unwrap();
    assert!(open_device(&device, &wrong).is_none());
    assert!(device.snapshot() == before);
    assert!(open_device(&device, &key()).is_some());
}
