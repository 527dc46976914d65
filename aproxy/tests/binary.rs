//! The program itself: its socket, its messages, how it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn aproxy(socket: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aproxy"));
    command
        .args(["--protocol", "kbs-test", "--url", "http://127.0.0.1:1"])
        .arg("--unix")
        .arg(socket)
        .args(more)
        .stderr(Stdio::piped());
    command
}

fn started(socket: &Path, more: &[&str]) -> Child {
    let mut child = aproxy(socket, more).spawn().unwrap();
    let mut line = String::new();
    let mut messages = BufReader::new(child.stderr.as_mut().unwrap());
    messages.read_line(&mut line).unwrap();
    assert!(line.starts_with("aproxy: listening on "), "{line}");
    child
}

fn stop(child: Child, signal: &str) -> Output {
    let pid = child.id().to_string();
    let killed = Command::new("kill").args([signal, &pid]).status().unwrap();
    assert!(killed.success());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn refused(socket: &Path, more: &[&str], words: &str) {
    let output = aproxy(socket, more).output().unwrap();
    assert!(!output.status.success());
    let messages = String::from_utf8(output.stderr).unwrap();
    assert_eq!(messages.lines().count(), 1, "{messages}");
    assert!(messages.contains(words), "{messages}");
}

#[test]
fn socket_is_removed_at_exit() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    for signal in ["-INT", "-TERM"] {
        let child = started(&socket, &[]);
        let _connection = UnixStream::connect(&socket).unwrap();
        let output = stop(child, signal);
        assert!(output.status.success(), "{:?}", output.status);
        assert!(!socket.exists());
    }
}

#[test]
fn leftover_socket_needs_force() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let child = started(&socket, &[]);
    stop(child, "-KILL");
    assert!(socket.exists());
    refused(&socket, &[], "pass --force");
    let child = started(&socket, &["--force"]);
    assert!(UnixStream::connect(&socket).is_ok());
    stop(child, "-TERM");
}

#[test]
fn force_does_not_remove_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, "precious").unwrap();
    refused(&file, &["--force"], "is not a socket");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn unusable_url_is_refused_before_the_socket_exists() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let missing = dir.path().join("no-such.pem");
    let missing = missing.to_str().unwrap();
    for (args, words) in [
        (vec!["--url", "ftp://kbs"], "give an http://"),
        (vec!["--url", "https://kbs"], "needs --ca FILE"),
        (
            vec!["--url", "https://kbs", "--ca", missing],
            "cannot read --ca",
        ),
        (
            vec!["--url", "https://kbs", "--ca", "/dev/null"],
            "no certificate",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_aproxy"))
            .args(["--protocol", "kbs", "--unix"])
            .arg(&socket)
            .args(args)
            .output()
            .unwrap();
        assert!(!output.status.success());
        let messages = String::from_utf8(output.stderr).unwrap();
        assert!(messages.contains(words), "{messages}");
        assert!(!socket.exists());
    }
}
