//! The main job: attest, open the volume, count the boots.

use anyhow::Result;
use e2e::{KEY, Servers, image};

const ATTESTED: &str = "[SVSM] attestation successful";
const OPENED: &str = "[SVSM] persistent CocoonFs storage opened successfully";
const FIRST: &str = "[SVSM] persistence demo: no boot counter found yet";
const WROTE: &str = "[SVSM] persistence demo: successfully wrote updated boot counter";

#[test]
fn a_creation_header_is_formatted_once_and_boots_are_counted() -> Result<()> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;

    let first = servers.guest().image(&state).boot()?;
    first.assert_complete();
    first.assert_says(&[ATTESTED, OPENED, FIRST, WROTE]);

    for count in 1..=3 {
        let next = servers.guest().image(&state).boot()?;
        next.assert_complete();
        let read = format!("[SVSM] persistence demo: boot counter read back is {count}");
        next.assert_says(&[ATTESTED, OPENED, &read, WROTE]);
        next.assert_never_says(FIRST);
    }
    Ok(())
}

#[test]
fn an_image_formatted_offline_with_the_key_opens_and_the_tool_reads_what_was_written() -> Result<()>
{
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::formatted(&state, KEY)?;
    assert!(image::inodes(&state, KEY)?.is_empty());

    let boot = servers.guest().image(&state).boot()?;
    boot.assert_complete();
    boot.assert_says(&[ATTESTED, OPENED, FIRST, WROTE]);

    // Token, boot counter, freshness record: namespace and index.
    let inodes = image::inodes(&state, KEY)?;
    let files: Vec<_> = inodes.iter().map(|n| (n >> 32, n & 0xffff_ffff)).collect();
    assert_eq!(files, [(3, 1), (4, 1), (4, 2)]);
    let inode = inodes[1];
    let token = image::read_file(&state, KEY, inodes[0])?;
    let token: serde_json::Value = serde_json::from_slice(&token)?;
    assert!(token["nonce"].is_string() && token["token"]["Jwt"].is_string());
    let counter = image::read_file(&state, KEY, inode)?;

    let boot = servers.guest().image(&state).boot()?;
    boot.assert_complete();
    boot.assert_says(&["boot counter read back is 1"]);
    let later = image::read_file(&state, KEY, inode)?;
    assert_eq!(counter.len(), later.len());
    assert_ne!(counter, later);
    Ok(())
}

#[test]
fn one_proxy_serves_guests_at_the_same_time() -> Result<()> {
    let servers = Servers::start()?;
    let mut guests = Vec::new();
    for name in ["a.img", "b.img"] {
        let state = servers.path(name);
        image::creation_header(&state)?;
        let guest = servers.guest().image(&state);
        guests.push(std::thread::spawn(move || guest.boot()));
    }
    for guest in guests {
        let boot = guest.join().expect("the thread does not panic")?;
        boot.assert_complete();
        boot.assert_says(&[ATTESTED, OPENED, FIRST, WROTE]);
    }
    Ok(())
}

#[test]
fn the_log_says_that_evidence_of_the_native_platform_proves_nothing() -> Result<()> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    let boot = servers.guest().image(&state).boot()?;
    boot.assert_complete();
    boot.assert_says(&["[SVSM] WARNING: ", ATTESTED]);
    boot.assert_says(&["proves nothing"]);
    Ok(())
}
