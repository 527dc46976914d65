//! Where the built programs and the scripts are.

use std::path::{Path, PathBuf};

/// The root of the source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is a directory of the workspace")
}

/// A program or image that `make` builds.
///
/// # Panics
/// When it is not there, with the command that makes it.
pub fn built(name: &str) -> PathBuf {
    let path = root().join("bin").join(name);
    assert!(
        path.exists(),
        "bin/{name} is missing: run `make` first (the end-to-end tests start what it builds)"
    );
    path
}

/// A tool that `scripts/setup.sh` installs into `target/tools`.
///
/// # Panics
/// When it is not there, with the command that installs it.
pub fn tool(name: &str) -> PathBuf {
    let path = root().join("target/tools/bin").join(name);
    assert!(
        path.exists(),
        "target/tools/bin/{name} is missing: run scripts/setup.sh"
    );
    path
}

/// A file of the small Linux that `scripts/setup.sh` puts into `target/tools/guest`.
///
/// # Panics
/// When it is not there, with the command that puts it there.
pub fn guest(name: &str) -> PathBuf {
    let path = root().join("target/tools/guest").join(name);
    assert!(
        path.exists(),
        "target/tools/guest/{name} is missing: run scripts/setup.sh"
    );
    path
}

/// A script of the tree.
pub fn script(name: &str) -> PathBuf {
    root().join("scripts").join(name)
}
