//! The project's own checks find what they are there to find.

use std::fs;
use std::process::Command;

use anyhow::Result;
use e2e::tree;

#[test]
fn unsafe_code_in_a_module_that_must_not_have_it_is_found() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let write = |file: &str, text: &str| -> Result<()> {
        let path = dir.path().join(file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(path, text)?)
    };
    let report = || -> Result<(bool, String)> {
        let output = Command::new(tree::script("unsafe-report.sh"))
            .arg(dir.path())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.success(), text))
    };
    write(
        "kernel/src/mm/frames.rs",
        "// SAFETY: a comment, not code: unsafe {\nlet a = unsafe {\n  b()\n};\nlet s = \"unsafe { }\";\n",
    )?;
    write("kernel/src/attest/mod.rs", "#![forbid(unsafe_code)]\n")?;
    let (passed, text) = report()?;
    assert!(passed, "{text}");
    let mm: Vec<_> = text
        .lines()
        .filter(|l| l.starts_with("kernel/src/mm"))
        .flat_map(str::split_whitespace)
        .collect();
    assert_eq!(mm, ["kernel/src/mm", "3", "5"]);

    write(
        "kernel/src/attest/jwe.rs",
        "fn f() -> u8 { unsafe { g() } }\n",
    )?;
    let (passed, text) = report()?;
    assert!(!passed && text.contains("kernel/src/attest "), "{text}");
    Ok(())
}

#[test]
fn every_distinct_combination_of_the_kernels_features_is_listed_once() -> Result<()> {
    let output = Command::new(tree::script("feature-sets.sh")).output()?;
    let text = String::from_utf8(output.stdout)?;
    let sets: std::collections::BTreeSet<_> = text.lines().collect();
    assert_eq!(sets.len(), text.lines().count(), "{text}");
    for set in ["", "attest", "attest,cocoonfs"] {
        assert!(sets.contains(set), "no {set:?} in {text}");
    }
    Ok(())
}
