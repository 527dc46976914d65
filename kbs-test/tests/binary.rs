//! The program itself: what it prints, and how it ends.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn kbs_test() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kbs-test"))
}

#[test]
fn address_is_announced_and_signal_ends_it() {
    let mut child = kbs_test()
        .args([
            "--secret",
            "00ff",
            "--listen",
            "127.0.0.1:0",
            "--allow-sample",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let address = line
        .trim_end()
        .strip_prefix("listening on http://")
        .unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok());

    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let messages = String::from_utf8(output.stderr).unwrap();
    for warning in ["no --measurement given", "proves nothing", "has 2 bytes"] {
        assert!(messages.contains(warning), "{messages}");
    }
    assert!(!messages.contains("00ff"));
}

#[test]
fn start_without_a_secret_is_refused() {
    let output = kbs_test()
        .args(["--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let messages = String::from_utf8(output.stderr).unwrap();
    assert_eq!(messages.lines().count(), 1);
    assert!(messages.contains("no secret to release: pass --secret HEX"));
}

#[test]
fn taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = kbs_test()
        .args(["--secret", "00", "--listen", &address])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(
        messages.contains(&format!("cannot listen on {address}")),
        "{messages}"
    );
}
