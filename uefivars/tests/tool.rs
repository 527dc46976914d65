//! The tool `uefi-vars`, and what others make of the files it writes.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Guest, vector, vectors};
use uefivars::host::json;
use uefivars::memory::Memory;
use uefivars::variable::Variable;
use uefivars::{Config, InitialSet, Status, record, siglist};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn tool(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uefi-vars"))
        .args(args)
        .output()
        .unwrap()
}

fn works(args: &[&str]) -> String {
    let output = tool(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(args: &[&str]) -> String {
    let output = tool(args);
    assert!(!output.status.success(), "{args:?} works");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn records(dir: &Path) -> Memory {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    Memory::with(entries.map(|path| {
        let index = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        (index, std::fs::read(path).unwrap())
    }))
}

fn path(file: &str) -> String {
    vectors().join(file).to_str().unwrap().to_owned()
}

#[test]
fn keys_from_files_are_enrolled_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let at = ["--dir", dir.to_str().unwrap()];
    let (pk, kek, db) = (path("pk.der"), path("kek-all.esl"), path("db.auth"));
    let enroll = [
        &at[..],
        &["enroll", "--pk", &pk, "--kek", &kek, "--db", &db],
    ]
    .concat();
    works(&enroll);
    let mut guest = Guest::with(records(&dir), Config::default());
    assert_eq!(guest.service.flags().bits(), 0b111);
    assert_eq!(guest.value(common::GLOBAL, "KEK"), vector("kek-all.esl"));
    assert_eq!(
        guest.set(common::DB, "db", 0x27, &vector("db-later.auth")),
        Status::SUCCESS
    );

    let before = records(&dir).records().clone();
    assert!(fails(&enroll).contains("keys already"));
    assert_eq!(*records(&dir).records(), before);
    assert!(works(&[&at[..], &["show"]].concat()).ends_with("user mode, Secure Boot on\n"));
    assert!(fails(&[&at[..], &["enroll", "--pk", &db]].concat()).contains("PK and KEK"));
}

#[test]
fn a_set_for_a_boot_image_has_what_was_chosen_and_nothing_that_is_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ours, microsoft) = (at("ours"), at("microsoft"));
    let (pk, kek, db) = (path("pk.der"), path("kek.der"), path("other.esl"));
    works(&["set", "--pk", &pk, "--kek", &kek, "--db", &db, &ours]);
    let bytes = std::fs::read(&ours).unwrap();
    let set = InitialSet::decode(&bytes).unwrap().unwrap();
    assert_eq!(set.db, std::fs::read(&db).unwrap());
    assert_eq!(
        siglist::certificates(set.pk).collect::<Vec<_>>(),
        [std::fs::read(&pk).unwrap()]
    );
    assert!(set.dbx.is_empty());
    works(&["set", "--microsoft", &microsoft]);
    let bytes = std::fs::read(&microsoft).unwrap();
    let set = InitialSet::decode(&bytes).unwrap().unwrap();
    assert_eq!(set.kek, uefivars::microsoft::set().unwrap().kek);
    assert_eq!(set.time, uefivars::microsoft::TIME);

    let nothing = at("nothing");
    assert!(fails(&["set", "--pk", &pk, &nothing]).contains("--pk and --kek"));
    let two = path("kek-all.esl");
    assert!(fails(&["set", "--pk", &two, "--kek", &kek, &nothing]).contains("PK is not exactly"));
    assert!(!std::path::Path::new(&nothing).exists());
    assert!(fails(&["show"]).contains("--dir or --image"));
}

#[test]
fn damage_is_found_and_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let at = ["--dir", store.to_str().unwrap()];
    works(&[&at[..], &["enroll", "--microsoft"]].concat());
    works(&[&at[..], &["check"]].concat());
    let damaged = store.join("4.uefivar");
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes.pop();
    std::fs::write(&damaged, bytes).unwrap();
    assert!(fails(&[&at[..], &["show"]].concat()).contains("record 4 is damaged"));
    let output = tool(&[&at[..], &["check"]].concat());
    assert!(String::from_utf8_lossy(&output.stdout).contains("record 4: DAMAGED: "));
    assert!(!output.status.success());
    works(&[&at[..], &["drop", "4"]].concat());
    assert!(fails(&[&at[..], &["drop", "4"]].concat()).contains("no record 4"));
    works(&[&at[..], &["check"]].concat());
}

#[test]
fn json_goes_out_and_in_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let boot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/fedora-boot-1.json");
    let said = works(&["--dir", one, "import", boot]);
    assert!(said.contains("CustomMode-c076ec0c-7028-4399-a072-71ee5c448b9f: there already"));
    assert_eq!(
        said.lines()
            .filter(|line| line.ends_with(": added"))
            .count(),
        26
    );
    let again = works(&["--dir", one, "import", boot]);
    assert!(!again.contains(": added"));
    let json = dir.path().join("out.json");
    let json = json.to_str().unwrap();
    works(&["--dir", one, "export", "--format", "json", json]);
    works(&["--dir", two, "import", json]);
    assert_eq!(
        records(one.as_ref()).records(),
        records(two.as_ref()).records()
    );
}

/// The variables in a file as `virt-fw-vars` reads them.
fn virt_fw_vars(file: &str) -> Vec<Variable> {
    let tool = std::env::var("VIRT_FW_VARS").unwrap_or_else(|_| "virt-fw-vars".to_owned());
    let json = format!("{file}.read");
    let output = Command::new(&tool)
        .args(["--input", file, "--output-json", &json])
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}; scripts/setup.sh installs it"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let mut variables = json::import(&std::fs::read_to_string(json).unwrap()).unwrap();
    variables.sort_by_key(|variable| variable.key.to_string());
    variables
}

/// Needs virt-fw-vars (Python package virt-firmware) in PATH or in VIRT_FW_VARS.
#[test]
#[ignore = "needs virt-fw-vars"]
fn virt_fw_vars_reads_what_is_exported() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let store = at("store");
    works(&["--dir", &store, "enroll", "--microsoft"]);
    let boot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/fedora-boot-1.json");
    works(&["--dir", &store, "import", boot]);
    let mut stored: Vec<Variable> = records(store.as_ref())
        .records()
        .values()
        .map(|bytes| record::decode(bytes).unwrap())
        .collect();
    // virt-fw-vars keeps variables by name; of the two with this one it has the last.
    let twice = |variable: &Variable| variable.key.name.is("5254001087CE");
    stored.retain(|variable| !twice(variable));
    stored.sort_by_key(|variable| variable.key.to_string());
    assert_eq!(stored.len(), 28);
    for format in ["json", "fd"] {
        let file = at(format);
        works(&["--dir", &store, "export", "--format", format, &file]);
        let mut seen = virt_fw_vars(&file);
        seen.retain(|variable| !twice(variable));
        assert_eq!(seen, stored, "{format}");
    }
}

/// Needs the `cocoonfs` tool; its path is in COCOONFS_CLI.
#[test]
#[ignore = "needs cocoonfs"]
fn an_image_is_filled_and_keeps_what_is_in_it() {
    let cocoonfs = std::env::var("COCOONFS_CLI").unwrap_or_else(|_| "cocoonfs".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let image = image.to_str().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(&cocoonfs)
            .args(["-i", image, "-f"])
            .args(args)
            .output()
            .unwrap_or_else(|error| panic!("{cocoonfs}: {error}; scripts/setup.sh installs it"));
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let layout = [
        "mkfs",
        "-H",
        "sha2",
        "-C",
        "aes",
        "-t",
        "128",
        "-I",
        "ddeeff",
        "-s",
        "8M",
        "-K",
        KEY,
        "--allocation-block-size",
        "512B",
        "--io-block-size",
        "512B",
        "--auth-tree-data-block-size",
        "512B",
        "--auth-tree-node-size",
        "1K",
    ];
    run(&layout);
    // A file of somebody else.
    let other = dir.path().join("other");
    std::fs::write(&other, b"TPM").unwrap();
    run(&[
        "write-file",
        "-K",
        KEY,
        "4294967296",
        "-i",
        other.to_str().unwrap(),
    ]);

    let at = ["--image", image, "--key", KEY];
    works(&[&at[..], &["enroll", "--microsoft"]].concat());
    assert!(fails(&[&at[..], &["enroll", "--microsoft"]].concat()).contains("keys already"));
    assert!(works(&[&at[..], &["show"]].concat()).ends_with("user mode, Secure Boot on\n"));
    works(&[&at[..], &["drop", "4"]].concat());
    let listed = String::from_utf8(run(&["list-files", "-K", KEY])).unwrap();
    let inodes: Vec<u64> = listed
        .lines()
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    let ours = |n: u64| 2 << 32 | n;
    assert_eq!(inodes, [1 << 32, ours(1), ours(2), ours(3)]);
    let wrong = KEY.replace("00", "ff");
    assert!(fails(&["--image", image, "--key", &wrong, "show"]).contains("cocoonfs list-files"));
}
