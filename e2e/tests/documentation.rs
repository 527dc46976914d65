//! The documentation keeps up with the sources.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use e2e::tree;

/// All files below `dir` with the extension `extension`.
fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The string literals that follow `opening` in `source`, unit tests left out.
fn literals_after<'a>(source: &'a str, opening: &str) -> Vec<&'a str> {
    let code = source.split("mod tests {").next().unwrap_or(source);
    code.split(opening)
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect()
}

/// What is fixed in a format string, in pieces long enough to mean something.
fn fixed_parts(format: &str) -> Vec<&str> {
    format
        .split(['{', '}'])
        .step_by(2)
        .map(str::trim)
        .filter(|part| part.len() >= 8)
        .collect()
}

#[test]
fn every_log_line_is_listed() -> Result<()> {
    let list = fs::read_to_string(tree::root().join("Documentation/LOG-MESSAGES.md"))?;
    // The list breaks lines.
    let list = list.split_whitespace().collect::<Vec<_>>().join(" ");
    let kernel = tree::root().join("kernel/src");
    let (mut seen, mut missing) = (0, Vec::new());
    for file in files(&kernel, "rs")? {
        // Lines of builds for tests, which those tests know.
        let for_tests = ["selftest.rs", "bench", "boot/bench.rs"];
        if for_tests
            .iter()
            .any(|part| file.starts_with(kernel.join(part)))
        {
            continue;
        }
        let source = fs::read_to_string(&file)?;
        let mut formats = Vec::new();
        for level in ["info", "warn", "error"] {
            formats.extend(literals_after(&source, &format!("log::{level}!(")));
        }
        // Errors that end up in the log of every boot that goes wrong.
        let inside = file.strip_prefix(&kernel)?;
        if ["boot", "attest", "persistence/discovery.rs"]
            .iter()
            .any(|part| inside.starts_with(part))
        {
            formats.extend(literals_after(&source, "#[error("));
        }
        for format in formats {
            seen += 1;
            for part in fixed_parts(format) {
                if !list.contains(part) {
                    missing.push(format!("{}: {part:?}", inside.display()));
                }
            }
        }
    }
    assert!(
        missing.is_empty(),
        "not in Documentation/LOG-MESSAGES.md:\n{}",
        missing.join("\n")
    );
    assert!(seen > 50, "only {seen} messages were found in the sources");
    Ok(())
}

#[test]
fn links_between_the_documents_lead_somewhere() -> Result<()> {
    let mut documents = files(&tree::root().join("Documentation"), "md")?;
    documents.push(tree::root().join("README.md"));
    for document in documents {
        let text = fs::read_to_string(&document)?;
        let dir = document.parent().context("a file is in a directory")?;
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(
                dir.join(target).exists(),
                "{}: {target} does not exist",
                document.display()
            );
        }
    }
    Ok(())
}

#[test]
fn tests_that_the_threat_model_names_exist() -> Result<()> {
    let text = fs::read_to_string(tree::root().join("Documentation/THREAT-MODEL.md"))?;
    let mut sources = String::new();
    for part in [
        "aproxy/tests",
        "e2e/tests",
        "igvmbuilder/src",
        "kbs-test/tests",
        "kernel/src",
        "kernel/tests",
    ] {
        for file in files(&tree::root().join(part), "rs")? {
            sources.push_str(&fs::read_to_string(file)?);
        }
    }
    let names = text.split('`').skip(1).step_by(2);
    let mut seen = 0;
    for name in names.filter(|name| name.matches('_').count() >= 3) {
        seen += 1;
        assert!(
            sources.contains(&format!("fn {name}(")),
            "there is no test {name}"
        );
    }
    assert!(seen > 20, "only {seen} tests are named");
    Ok(())
}
