//! Key brokers that are down, ill or not convinced, behind the real proxy. The boot
//! stops with one message, the proxy lives on and serves the next guest.

use std::fs;

use anyhow::Result;
use e2e::hostile::{self, ScriptedServer};
use e2e::{Guest, KEY, Proxy, Servers, image};

const FAILED: &str = "[SVSM] ERROR: attestation failed: ";

/// Boots with an image and the real proxy in front of `url`, twice; each boot must
/// stop, the image stay as it is and the proxy alive.
#[track_caller]
fn refused_behind_the_proxy(url: &str) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state.img");
    image::creation_header(&state)?;
    let before = fs::read(&state)?;
    let mut proxy = Proxy::start(dir.path(), url)?;
    for _ in 0..2 {
        let boot = Guest::new().proxy(proxy.socket()).image(&state).boot()?;
        boot.assert_stopped(FAILED);
        assert!(proxy.is_running(), "the proxy ended:\n{}", proxy.log());
    }
    assert!(fs::read(&state)? == before, "the image changed");
    Ok(proxy.log())
}

#[test]
fn a_server_that_is_down_stops_the_boot() -> Result<()> {
    refused_behind_the_proxy(&hostile::nowhere()?)?;
    Ok(())
}

#[test]
fn a_server_that_answers_500_stops_the_boot() -> Result<()> {
    let server = ScriptedServer::start("500 Internal Server Error", b"{}")?;
    let log = refused_behind_the_proxy(server.url())?;
    assert!(log.contains("500"), "the proxy says:\n{log}");
    Ok(())
}

#[test]
fn a_server_that_answers_garbage_stops_the_boot() -> Result<()> {
    let server = ScriptedServer::start("200 OK", b"\x00\xff<html>not a key broker")?;
    refused_behind_the_proxy(server.url())?;
    Ok(())
}

#[test]
fn a_measurement_that_is_not_the_expected_one_is_refused_and_both_are_printed() -> Result<()> {
    let expected = "ab".repeat(48);
    let servers = Servers::start_with(KEY, &["--measurement", &expected])?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let before = fs::read(&state)?;

    let boot = servers.guest().image(&state).boot()?;
    boot.assert_stopped(FAILED);
    let log = servers.kbs.log();
    let found = log
        .lines()
        .find_map(|l| l.split_once("found:"))
        .map(|(_, found)| found.trim_matches('"').to_owned());
    let Some(found) = found else {
        panic!("no measurement found is printed:\n{log}");
    };
    assert!(log.contains(&format!("expected:\"{expected}\"")), "{log}");
    assert!(found.len() == 96 && found != expected, "{log}");
    assert!(fs::read(&state)? == before, "the image changed");

    // As documented: the one that was found is the one to expect.
    let servers = Servers::start_with(KEY, &["--measurement", &found])?;
    let boot = servers.guest().image(&state).boot()?;
    boot.assert_complete();
    boot.assert_says(&["[SVSM] attestation successful"]);
    Ok(())
}

#[test]
fn a_secret_shorter_than_32_bytes_is_refused() -> Result<()> {
    let servers = Servers::start_with(&KEY[..62], &[])?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let before = fs::read(&state)?;
    let boot = servers.guest().image(&state).boot()?;
    boot.assert_stopped(FAILED);
    boot.assert_stopped("31");
    assert!(fs::read(&state)? == before, "the image changed");
    Ok(())
}
