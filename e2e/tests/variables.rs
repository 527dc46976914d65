//! UEFI variables in a booted SVSM, on a volume, with reboots in between: recorded firmware
//! boots, signed updates of other tools, first keys in the image, and what is exported.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::{KEY, Servers, Serving, Setting, image, tree};
use serde_json::Value;

/// The namespace of db and dbx.
const KEYS: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";

/// A recorded boot, or what QEMU stored after it.
fn recorded(name: &str) -> Result<String> {
    text(&tree::root().join("uefivars/tests/data").join(name))
}

/// A file that another tool made or signed.
fn vector(name: &str) -> Result<String> {
    text(&tree::root().join("uefivars/tests/vectors").join(name))
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().context("a path that is not UTF-8")?;
    Ok(text.to_owned())
}

fn program(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}; scripts/setup.sh installs it"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Namespace and name, and attributes and value in hex.
type Variables = BTreeMap<(String, String), (u64, String)>;

/// The variables in an array of objects, as QEMU's files and `guestlink` have them.
fn variables(array: &Value) -> Result<Variables> {
    let field = |variable: &Value, name: &str| {
        let text = variable[name].as_str().map(str::to_owned);
        text.with_context(|| format!("no {name} in {variable}"))
    };
    array
        .as_array()
        .context("no array")?
        .iter()
        .map(|variable| {
            let attributes = variable["attr"].as_u64().context("attr")?;
            Ok((
                (field(variable, "guid")?, field(variable, "name")?),
                (attributes, field(variable, "data")?.to_lowercase()),
            ))
        })
        .collect()
}

/// The variables in a file of QEMU's format.
fn variables_in(path: &Path) -> Result<Variables> {
    let file: Value = serde_json::from_slice(&fs::read(path)?)?;
    variables(&file["variables"])
}

/// The value of a variable in hex.
fn value(serving: &Serving, name: &str, guid: Option<&str>) -> Result<String> {
    let mut arguments = vec!["efivar", "get", name];
    if let Some(guid) = guid {
        arguments.extend(["--guid", guid]);
    }
    Ok(serving.guestlink(&arguments)?.trim().to_owned())
}

/// SetupMode and SecureBoot.
fn mode(serving: &Serving) -> Result<(String, String)> {
    let value = |name| value(serving, name, None);
    Ok((value("SetupMode")?, value("SecureBoot")?))
}

/// Writes a signed payload; which status refuses it, if one does.
fn authset(serving: &Serving, name: &str, file: &str, more: &[&str]) -> Result<Option<String>> {
    let file = vector(file)?;
    let mut arguments = vec!["efivar", "authset", name, &file];
    arguments.extend(more);
    if name.starts_with("db") {
        arguments.extend(["--guid", KEYS]);
    }
    let Err(error) = serving.guestlink(&arguments) else {
        return Ok(None);
    };
    let error = error.to_string();
    let status = error
        .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
        .find(|word| word.starts_with("EFI_"));
    Ok(Some(status.with_context(|| error.clone())?.to_owned()))
}

#[test]
fn recorded_boots_are_answered_on_a_volume_with_a_reboot_in_between() -> Result<()> {
    let setting = Setting::with_tpm()?;
    let servers = &setting.servers;
    let boot = || setting.boot();

    let first = boot()?;
    let file = recorded("fedora-boot-1.pcap.gz")?;
    let said = first.guestlink(&["efivar", "boot-replay", &file, "--verbose"])?;
    assert!(
        said.ends_with("905 calls, 840 answers as recorded, 65 differ by rule, 0 without one\n"),
        "{said}"
    );
    first.shut_down()?.assert_complete();

    let second = boot()?;
    // QEMU stores two variables more, which are always 0 here.
    let count = variables_in(recorded("fedora-boot-1.json")?.as_ref())?.len() - 2;
    let loaded = format!("UEFI variables: {count} loaded from the volume");
    ensure!(second.log().contains(&loaded), "{}", second.log());
    let file = recorded("fedora-boot-2.pcap.gz")?;
    let said = second.guestlink(&["efivar", "boot-replay", &file])?;
    assert_eq!(
        said,
        "953 calls, 861 answers as recorded, 92 differ by rule, 0 without one\n"
    );
    second.shut_down()?.assert_complete();

    // What is stored is what QEMU stored, and another program reads it.
    let third = boot()?;
    let mut expected = variables_in(recorded("fedora-boot-2.json")?.as_ref())?;
    expected.retain(|(_, name), _| !["CustomMode", "VendorKeysNv"].contains(&name.as_str()));
    let list: Value = serde_json::from_str(&third.guestlink(&["efivar", "list", "--json"])?)?;
    let mut listed = variables(&list)?;
    listed.retain(|name, (attributes, _)| *attributes & 1 == 1 && expected.contains_key(name));
    assert_eq!(listed, expected);
    // By its name alone: of two with this one virt-fw-vars has the last.
    let once = |(_, name): &(String, String)| name != "5254001087CE";
    expected.retain(|name, _| once(name));
    for format in ["json", "fd"] {
        let exported = servers.path(format);
        let read = servers.path("read.json");
        let output = text(&exported)?;
        third.guestlink(&["efivar", "export", "--format", format, "--output", &output])?;
        let tool = tree::root().join("target/tools/venv/bin/virt-fw-vars");
        program(
            Command::new(tool)
                .arg("--input")
                .arg(&exported)
                .arg("--output-json")
                .arg(&read),
        )?;
        let mut seen = variables_in(&read)?;
        seen.retain(|name, _| expected.contains_key(name));
        assert_eq!(seen, expected, "{format}");
    }

    // Keys that are enrolled by a guest in setup mode count from then on.
    assert_eq!(mode(&third)?, ("01".into(), "00".into()));
    for (name, file) in [
        ("db", "db.auth"),
        ("KEK", "kek.auth"),
        ("PK", "pk-self.auth"),
    ] {
        assert_eq!(authset(&third, name, file, &[])?, None, "{name}");
    }
    assert_eq!(mode(&third)?, ("00".into(), "01".into()));
    third.kill()?;
    let fourth = boot()?;
    ensure!(
        fourth.log().contains("Secure Boot is on"),
        "{}",
        fourth.log()
    );
    assert_eq!(mode(&fourth)?, ("00".into(), "01".into()));
    fourth.shut_down()?.assert_complete();
    Ok(())
}

/// Servers, a state image that the first boot formats, and a boot image with first keys.
struct FirstKeys {
    servers: Servers,
    state: PathBuf,
    boot_image: PathBuf,
}

impl FirstKeys {
    /// With the keys that these options of `uefi-vars set` choose.
    fn new(options: &[&str]) -> Result<Self> {
        let servers = Servers::start()?;
        let state = servers.path("state.img");
        image::creation_header(&state)?;
        let set = servers.path("initial-set");
        make_set(options, &set)?;
        let boot_image = servers.path("secureboot.elf");
        compose(Some(&set), "--elf", &boot_image)?;
        Ok(Self {
            servers,
            state,
            boot_image,
        })
    }

    fn boot(&self) -> Result<Serving> {
        let guest = self.servers.guest().image(&self.state);
        Serving::start_kernel(&text(&self.boot_image)?, guest, &self.servers.path(""))
    }
}

/// Writes the keys that these options choose to a file.
fn make_set(options: &[&str], file: &Path) -> Result<()> {
    let mut command = Command::new(tree::built("uefi-vars"));
    program(command.arg("set").args(options).arg(file)).map(drop)
}

/// Makes a boot image of the kernel that enrols keys, in a format of `igvmbuilder`.
fn compose(set: Option<&Path>, format: &str, boot_image: &Path) -> Result<()> {
    let mut command = Command::new(tree::built("igvmbuilder"));
    command
        .arg("--stage2")
        .arg(tree::built("stage2.elf"))
        .arg("--kernel")
        .arg(tree::built("kernel-secureboot.elf"))
        .arg(format)
        .arg(boot_image);
    if let Some(set) = set {
        command.arg("--initial-set").arg(set);
    }
    program(&mut command).map(drop)
}

const ENROLLED: &str = "UEFI variables: the first keys of this image are enrolled";
const NOT_USED: &str = "UEFI variables: the first keys of this image are not used";

#[test]
fn microsofts_keys_in_the_image_are_on_in_the_first_boot_and_in_the_next() -> Result<()> {
    let setting = FirstKeys::new(&["--microsoft"])?;
    for (boot, line) in [ENROLLED, NOT_USED].into_iter().enumerate() {
        let serving = setting.boot()?;
        ensure!(serving.log().contains(line), "{}", serving.log());
        assert_eq!(mode(&serving)?, ("00".into(), "01".into()), "boot {boot}");
        let manifest: Value = serde_json::from_str(&serving.guestlink(&["manifest", "--json"])?)?;
        let flags = &manifest["services"]
            .as_array()
            .context("services")?
            .iter()
            .find_map(|service| service.get("flags"))
            .context("flags")?;
        for flag in [
            "persistent_nv_vars",
            "secureboot_enabled",
            "secureboot_db_update",
        ] {
            assert_eq!(flags[flag], true, "{flag}");
        }
        // Nobody has a key for this PK.
        let refused = Some("EFI_SECURITY_VIOLATION".to_owned());
        assert_eq!(authset(&serving, "PK", "pk-self.auth", &[])?, refused);
        assert_eq!(authset(&serving, "db", "db.auth", &[])?, refused);
        serving.shut_down()?.assert_complete();
    }
    Ok(())
}

#[test]
fn an_owners_keys_in_the_image_decide_what_may_be_changed() -> Result<()> {
    let (pk, kek, db) = (vector("pk.der")?, vector("kek.der")?, vector("pk.esl")?);
    let setting = FirstKeys::new(&["--pk", &pk, "--kek", &kek, "--db", &db])?;
    let refused = Some("EFI_SECURITY_VIOLATION".to_owned());
    let first = setting.boot()?;
    assert_eq!(mode(&first)?, ("00".into(), "01".into()));
    assert_eq!(
        value(&first, "db", Some(KEYS))?,
        hex(&fs::read(&db)?),
        "as chosen"
    );
    for (name, file, more, expected) in [
        ("db", "db-by-other.auth", &[][..], &refused),
        ("db", "db.auth", &[], &None),
        // Once more, and what is older.
        ("db", "db.auth", &[], &refused),
        ("db", "db-earlier.auth", &[], &refused),
        ("db", "sb-db-append.auth", &["--append"], &None),
        // Signed for other attributes than it is sent with.
        ("db", "db-later.auth", &["--append"], &refused),
        (
            "db",
            "db-later.auth",
            &["--attributes", "nv,bs,rt"],
            &Some("EFI_INVALID_PARAMETER".to_owned()),
        ),
        (
            "dbx",
            "dbx-cut-list.auth",
            &[],
            &Some("EFI_INVALID_PARAMETER".to_owned()),
        ),
        ("dbx", "dbx.auth", &[], &None),
        ("KEK", "kek-by-other.auth", &[], &refused),
        ("PK", "pk-to-other.auth", &[], &refused),
    ] {
        assert_eq!(
            authset(&first, name, file, more)?,
            *expected,
            "{name} {file} {more:?}"
        );
    }
    let expected = [vector("other.esl")?, vector("kek.esl")?];
    let expected: Vec<u8> = expected
        .iter()
        .map(fs::read)
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    assert_eq!(value(&first, "db", Some(KEYS))?, hex(&expected));
    first.kill()?;

    let second = setting.boot()?;
    assert_eq!(value(&second, "db", Some(KEYS))?, hex(&expected));
    assert_eq!(mode(&second)?, ("00".into(), "01".into()));
    assert_eq!(authset(&second, "db", "db-earlier.auth", &[])?, refused);
    // The owner takes PK away, and comes back: with variables on the volume the keys in
    // the image do not count any more.
    assert_eq!(authset(&second, "PK", "pk-delete.auth", &[])?, None);
    assert_eq!(mode(&second)?, ("01".into(), "00".into()));
    second.shut_down()?.assert_complete();
    let third = setting.boot()?;
    ensure!(third.log().contains(NOT_USED), "{}", third.log());
    assert_eq!(mode(&third)?, ("01".into(), "00".into()));
    third.shut_down()?.assert_complete();
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn keys_in_the_image_leave_a_volume_with_variables_alone() -> Result<()> {
    let setting = FirstKeys::new(&["--microsoft"])?;
    image::formatted(&setting.state, KEY)?;
    // A variable that an owner brings in offline.
    let file = setting.servers.path("vars.json");
    fs::write(
        &file,
        r#"{"version": 2, "variables": [
            {"name": "Timeout", "guid": "8be4df61-93ca-11d2-aa0d-00e098032b8c", "attr": 7, "data": "0500"}
        ]}"#,
    )?;
    program(
        Command::new(tree::built("uefi-vars"))
            .arg("--image")
            .arg(&setting.state)
            .args(["--key", KEY, "--cocoonfs"])
            .arg(tree::tool("cocoonfs"))
            .arg("import")
            .arg(&file),
    )?;
    let before = image::inodes(&setting.state, KEY)?;
    let serving = setting.boot()?;
    ensure!(serving.log().contains(NOT_USED), "{}", serving.log());
    assert_eq!(mode(&serving)?, ("01".into(), "00".into()));
    assert_eq!(value(&serving, "Timeout", None)?, "0500");
    serving.shut_down()?.assert_complete();
    let of_variables = |inodes: Vec<u64>| -> Vec<u64> {
        inodes
            .into_iter()
            .filter(|inode| inode >> 32 == 2)
            .collect()
    };
    assert_eq!(
        of_variables(image::inodes(&setting.state, KEY)?),
        of_variables(before)
    );
    Ok(())
}

#[test]
fn a_kernel_that_enrols_keys_makes_no_image_without_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let image = dir.path().join("image.elf");
    let error = compose(None, "--elf", &image)
        .expect_err("there are no keys")
        .to_string();
    assert!(error.contains("`uefi-vars set`"), "{error}");
    assert!(!image.exists());
    let set = dir.path().join("set");
    fs::write(&set, b"no keys")?;
    let error = compose(Some(&set), "--elf", &image)
        .expect_err("these are no keys")
        .to_string();
    assert!(error.contains("not a set of first keys"), "{error}");
    Ok(())
}

#[test]
fn other_keys_are_another_measurement() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let digest = |name: &str, options: &[&str]| -> Result<String> {
        let (set, image) = (dir.path().join(name), dir.path().join("image.igvm"));
        make_set(options, &set)?;
        compose(Some(&set), "--igvm", &image)?;
        let mut measure = Command::new(tree::built("igvmmeasure"));
        program(measure.arg(&image).args(["measure", "-b"]))
    };
    let (pk, kek, db) = (vector("pk.der")?, vector("kek.der")?, vector("other.der")?);
    let ours = ["--pk", &pk, "--kek", &kek];
    let with_db = [&ours[..], &["--db", &db]].concat();
    let digests = [
        digest("ours", &ours)?,
        digest("with-db", &with_db)?,
        digest("microsoft", &["--microsoft"])?,
    ];
    assert_eq!(digest("ours again", &ours)?, digests[0]);
    assert_ne!(digests[0], digests[1]);
    assert_ne!(digests[1], digests[2]);
    assert_ne!(digests[0], digests[2]);
    Ok(())
}
