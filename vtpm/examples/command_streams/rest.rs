//! Commands about the TPM itself, PCRs and NV indices that the recorded clients do not use.

use std::io;

use crate::client::{
    Auth, Client, ENDORSEMENT, LOCKOUT, NONE, NULL, OWNER, PLATFORM, SHA256, blob,
};

/// Owner and authorization value may read and write; no dictionary attack protection.
const OPEN: u32 = 0x0206_0006;
const DATA: u32 = 0x0150_0000;
const COUNTER: u32 = 0x0150_0001;
const BITS: u32 = 0x0150_0002;
const EXTEND: u32 = 0x0150_0003;
/// WRITEDEFINE, GLOBALLOCK, READ_STCLEAR
const LOCKABLE: u32 = OPEN | 1 << 13 | 1 << 15 | 1 << 31;

/// All of them.
pub fn without_objects(client: &mut Client<'_>) -> io::Result<()> {
    tpm(client)?;
    pcrs(client)?;
    indices(client)?;
    audits(client)?;
    hierarchies(client)
}

fn tpm(client: &mut Client<'_>) -> io::Result<()> {
    // AES as a TPMT_PUBLIC_PARMS.
    client.plain(0x18A, &[], &[0, 0x25, 0, 6, 0, 128, 0, 0x43])?;
    client.plain(0x142, &[], &[0; 4])?;
    client.plain(0x143, &[], &[1])?;
    client.plain(0x17C, &[], &[])?;
    client.plain(0x146, &[], &blob(b"some more"))?;
    client.owned(0x128, &[OWNER], &1_000_000u64.to_be_bytes())?;
    client.owned(0x130, &[OWNER], &[1])?;
    client.owned(0x13F, &[PLATFORM], &[0; 4])?;
    client.plain(0x18E, &[], &[0, 3]).map(drop)
}

fn pcrs(client: &mut Client<'_>) -> io::Result<()> {
    client.owned(0x13C, &[16], &blob(b"event"))?;
    client.owned(0x13D, &[16], &[])?;
    // HashSequenceStart of an event sequence, then its end.
    let sequence = client
        .plain(0x186, &[], &[blob(b""), NONE.to_vec()].concat())?
        .handle;
    client.owned(0x15C, &[sequence], &blob(&[5; 1000]))?;
    client.run(
        0x185,
        &[16, sequence],
        &[Auth::Empty, Auth::Empty],
        &blob(&[6; 1000]),
    )?;
    let policy = [&blob(&[7; 32])[..], SHA256, &[0, 0, 0, 20]].concat();
    client.owned(0x183, &[20], &blob(b""))?;
    client.owned(0x12C, &[PLATFORM], &policy)?;
    let without_sha384 = [0, 0, 0, 1, 0, 0x0C, 3, 0, 0, 0];
    client.owned(0x12B, &[PLATFORM], &without_sha384).map(drop)
}

fn indices(client: &mut Client<'_>) -> io::Result<()> {
    client.define(OWNER, DATA, LOCKABLE, b"", 2048)?;
    client.define(OWNER, COUNTER, OPEN | 1 << 4, b"", 8)?;
    client.define(OWNER, BITS, OPEN | 2 << 4, b"", 8)?;
    client.define(OWNER, EXTEND, OPEN | 4 << 4, b"", 32)?;
    let write = [blob(&[3; 1024]), vec![0, 0]].concat();
    client.owned(0x137, &[OWNER, DATA], &write)?;
    client.owned(0x134, &[OWNER, COUNTER], &[])?;
    client.owned(0x135, &[OWNER, BITS], &[0xFF; 8])?;
    client.owned(0x136, &[OWNER, EXTEND], &blob(&[3; 1024]))?;
    let certify = [&blob(b"nonce")[..], NONE, &[4, 0, 0, 0]].concat();
    client.run(
        0x184,
        &[NULL, OWNER, DATA],
        &[Auth::Empty, Auth::Empty],
        &certify,
    )?;
    client.owned(0x132, &[OWNER], &[])?;
    client.owned(0x138, &[OWNER, DATA], &[])?;
    client.owned(0x14F, &[OWNER, DATA], &[])?;
    client.owned(0x122, &[OWNER, DATA], &[]).map(drop)
}

fn audits(client: &mut Client<'_>) -> io::Result<()> {
    // GetRandom is audited from now on.
    let audit = [NONE, &[0, 0, 0, 1, 0, 0, 1, 0x7B], &[0; 4]].concat();
    client.owned(0x140, &[OWNER], &audit)?;
    let session = client.session(0)?;
    // continueSession, audit
    client.run(0x17B, &[], &[Auth::Session(session, 0x81)], &[0, 32])?;
    let both = [Auth::Empty, Auth::Empty];
    let parameters = [&blob(b"nonce")[..], NONE].concat();
    client.run(0x133, &[ENDORSEMENT, NULL], &both, &parameters)?;
    client.run(0x14C, &[ENDORSEMENT, NULL], &both, &parameters)?;
    client.run(0x14D, &[ENDORSEMENT, NULL, session], &both, &parameters)?;
    client.flush(session)
}

fn hierarchies(client: &mut Client<'_>) -> io::Result<()> {
    let policy = [&blob(&[7; 32])[..], SHA256].concat();
    client.owned(0x12E, &[OWNER], &policy)?;
    client.owned(0x127, &[PLATFORM], &[1])?;
    client.owned(0x127, &[PLATFORM], &[0])?;
    client.owned(0x13A, &[LOCKOUT], &[0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 9])?;
    client.owned(0x139, &[LOCKOUT], &[])?;
    for enabled in [0, 1] {
        let parameters = [&OWNER.to_be_bytes()[..], &[enabled]].concat();
        client.owned(0x121, &[PLATFORM], &parameters)?;
    }
    client.owned(0x124, &[PLATFORM], &[])?;
    client.owned(0x125, &[PLATFORM], &[])?;
    client.owned(0x126, &[LOCKOUT], &[]).map(drop)
}
