//! All commands of policies, and those that only a policy permits.

use std::io;

use vtpm::crypto::{HashAlg, hash};

use crate::client::{Auth, COMMON, Client, OWNER, PLATFORM, SHA256, SIGN, blob, ecc_public, take};
use crate::keys::sign;

const ECDSA: &[u8] = &[0, 0x18, 0, 0x0B];
const DATA: u32 = 0x0150_0000;
const CHANGED: u32 = 0x0150_0001;
const SPECIAL: u32 = 0x0150_0002;

/// All of them.
pub fn all(client: &mut Client<'_>) -> io::Result<()> {
    assertions(client)?;
    signatures(client)?;
    indices(client)
}

/// A policy session in which `code` may be run.
pub fn session_for(client: &mut Client<'_>, code: u32) -> io::Result<u32> {
    let session = client.session(1)?;
    client.plain(0x16C, &[session], &code.to_be_bytes())?;
    Ok(session)
}

/// The digest of the policy that permits `code`.
pub fn for_command(client: &mut Client<'_>, code: u32) -> io::Result<Vec<u8>> {
    let trial = client.session(3)?;
    client.plain(0x16C, &[trial], &code.to_be_bytes())?;
    let answer = client.plain(0x189, &[trial], &[])?.parameters;
    client.flush(trial)?;
    Ok(take(&answer)?.0.to_vec())
}

fn assertions(client: &mut Client<'_>) -> io::Result<()> {
    let session = client.session(1)?;
    let hash = blob(&[7; 32]);
    client.plain(0x16B, &[session], &[])?;
    client.plain(0x18C, &[session], &[])?;
    client.plain(0x16F, &[session], &[1])?;
    client.plain(0x16E, &[session], &hash)?;
    client.plain(0x187, &[session], &[])?;
    client.plain(0x18F, &[session], &[1])?;
    // The time is at least 0.
    let compare = [&blob(&[0; 8])[..], &[0, 0, 0, 7]].concat();
    client.plain(0x16D, &[session], &compare)?;
    client.plain(0x180, &[session], &[])?;
    client.plain(0x170, &[session], &hash)?;
    client.plain(0x180, &[session], &[])?;
    client.plain(0x190, &[session], &hash)?;
    client.plain(0x180, &[session], &[])?;
    client.plain(0x188, &[session], &[&hash[..], &hash, &[0]].concat())?;
    client.plain(0x180, &[session], &[])?;
    // One of two, the first being the session's.
    let either = [&[0, 0, 0, 2][..], &blob(&[0; 32]), &hash].concat();
    client.plain(0x171, &[session], &either)?;
    client.flush(session)
}

fn signatures(client: &mut Client<'_>) -> io::Result<()> {
    let key = client.primary(&ecc_public(3, COMMON | SIGN, b""))?.handle;
    let public = client.plain(0x173, &[key], &[])?.parameters;
    let (_, rest) = take(&public)?;
    let (name, _) = take(rest)?;
    let first = client.session(1)?;
    let expiration = (-100i32).to_be_bytes();
    let signature = sign(client, key, &hash(HashAlg::Sha256, &[&expiration]), ECDSA)?;
    let signed = [&[0; 6][..], &expiration, &signature].concat();
    let answer = client.plain(0x160, &[key, first], &signed)?.parameters;
    let (timeout, ticket) = take(&answer)?;
    let second = client.session(1)?;
    let shown = [&blob(timeout)[..], &[0; 4], &blob(name), ticket].concat();
    client.plain(0x172, &[second], &shown)?;
    client.plain(0x180, &[second], &[])?;
    // The session's digest is still all zeros, and approved under no reference.
    let approved = [0; 32];
    let digest = hash(HashAlg::Sha256, &[&approved]);
    let signature = sign(client, key, &digest, ECDSA)?;
    let verify = [blob(&digest), signature].concat();
    let ticket = client.plain(0x177, &[key], &verify)?.parameters;
    let authorize = [&blob(&approved)[..], &[0, 0], &blob(name), &ticket].concat();
    client.plain(0x16A, &[second], &authorize)?;
    client.flush(first)?;
    client.flush(second)?;
    client.flush(key)
}

fn indices(client: &mut Client<'_>) -> io::Result<()> {
    client.define(OWNER, DATA, 0x0206_0006, b"", 34)?;
    // The policy of a session in which nothing was asked for.
    let nothing = [SHA256, &[0; 32]].concat();
    let write = [blob(&nothing), vec![0, 0]].concat();
    client.owned(0x137, &[OWNER, DATA], &write)?;
    let session = client.session(1)?;
    client.owned(0x192, &[OWNER, DATA, session], &[])?;
    let equal = [blob(&nothing), vec![0; 4]].concat();
    client.owned(0x149, &[OWNER, DATA, session], &equal)?;
    client.flush(session)?;

    let policy = for_command(client, 0x13B)?;
    client.define(OWNER, CHANGED, 0x0206_0006, &policy, 8)?;
    let session = session_for(client, 0x13B)?;
    let auth = [Auth::Session(session, 0)];
    client.run(0x13B, &[CHANGED], &auth, &blob(b"new value"))?;

    // PLATFORMCREATE, POLICY_DELETE
    let policy = for_command(client, 0x11F)?;
    let attributes = 0x4206_0006 | 1 << 10;
    client.define(PLATFORM, SPECIAL, attributes, &policy, 8)?;
    let session = session_for(client, 0x11F)?;
    let auths = [Auth::Session(session, 0), Auth::Empty];
    client
        .run(0x11F, &[SPECIAL, PLATFORM], &auths, &[])
        .map(drop)
}
