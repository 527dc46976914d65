//! Commands about objects that the recorded clients do not use.

use std::io;

use vtpm::crypto::{HashAlg, hash};

use crate::client::{
    AES, Auth, COMMON, Client, DECRYPT, NONE, NULL, OWNER, RESTRICTED, SHA256, SIGN, blob,
    ecc_public, rsa_public, take,
};
use crate::keys::sign;

const P256: u16 = 3;
const BN_P256: u16 = 0x10;
const ECDSA: &[u8] = &[0, 0x18, 0, 0x0B];

/// All of them.
pub fn all(client: &mut Client<'_>) -> io::Result<()> {
    rsa(client)?;
    exchanges(client)?;
    commitment(client)?;
    symmetric(client)?;
    certificates(client)?;
    children(client)
}

/// The hash of a signed message, as far as these commands look into it.
pub fn digest() -> Vec<u8> {
    hash(HashAlg::Sha256, &[b"message"])
}

fn rsa(client: &mut Client<'_>) -> io::Result<()> {
    let key = client.primary(&rsa_public(2048, COMMON | DECRYPT))?.handle;
    // OAEP, RSAES, and nothing.
    for scheme in [&[0, 0x17, 0, 0x0B][..], &[0, 0x15], NONE] {
        let size = if scheme == NONE { 256 } else { 32 };
        let message = vec![1; size];
        let encrypt = [&blob(&message)[..], scheme, &blob(b"")].concat();
        let cipher = client.plain(0x174, &[key], &encrypt)?.parameters;
        let decrypt = [&cipher[..], scheme, &blob(b"")].concat();
        client.owned(0x159, &[key], &decrypt)?;
    }
    client.flush(key)
}

fn exchanges(client: &mut Client<'_>) -> io::Result<()> {
    let key = client
        .primary(&ecc_public(P256, COMMON | DECRYPT, b""))?
        .handle;
    // zPoint, pubPoint
    let generated = client.plain(0x163, &[key], &[])?.parameters;
    let (_, public) = take(&generated)?;
    client.owned(0x154, &[key], public)?;
    let ephemeral = client.plain(0x18E, &[], &P256.to_be_bytes())?.parameters;
    let (_, counter) = take(&ephemeral)?;
    let two_phase = [public, public, &[0, 0x19], counter].concat();
    client.owned(0x18D, &[key], &two_phase)?;
    client.flush(key)
}

fn commitment(client: &mut Client<'_>) -> io::Result<()> {
    let mut public = ecc_public(BN_P256, COMMON | SIGN, b"");
    // The scheme, which the attributes, an empty policy and no symmetric algorithm precede.
    public.splice(12..14, [0, 0x1A, 0, 0x0B, 0, 0]);
    let key = client.primary(&public)?.handle;
    let nothing = [blob(&[0; 4]), blob(b""), blob(b"")].concat();
    let committed = client.owned(0x18B, &[key], &nothing)?.parameters;
    let counter = &committed[committed.len() - 2..];
    let scheme = [&[0, 0x1A, 0, 0x0B][..], counter].concat();
    sign(client, key, &digest(), &scheme)?;
    client.flush(key)
}

fn symmetric(client: &mut Client<'_>) -> io::Result<()> {
    let attributes = COMMON | DECRYPT | SIGN;
    let cipher = [
        &[0, 0x25][..],
        SHA256,
        &attributes.to_be_bytes(),
        &[0, 0],
        AES,
        &[0, 0],
    ];
    let key = client.primary(&cipher.concat())?.handle;
    let (iv, data) = (blob(&[0; 16]), blob(&[1; 1024]));
    let first = [&[0, 0, 0x43][..], &iv, &data].concat();
    client.owned(0x164, &[key], &first)?;
    let second = [&data[..], &[0, 0, 0x43], &iv].concat();
    client.owned(0x193, &[key], &second)?;
    client.flush(key)?;

    let attributes = COMMON | SIGN;
    let scheme = [0, 5, 0, 0x0B];
    let hmac = [
        &[0, 8][..],
        SHA256,
        &attributes.to_be_bytes(),
        &[0, 0],
        &scheme,
        &[0, 0],
    ];
    let key = client.primary(&hmac.concat())?.handle;
    let whole = [&data[..], SHA256].concat();
    client.owned(0x155, &[key], &whole)?;
    let start = [&blob(b"")[..], SHA256].concat();
    let sequence = client.owned(0x15B, &[key], &start)?.handle;
    client.owned(0x15C, &[sequence], &data)?;
    let end = [&data[..], &NULL.to_be_bytes()].concat();
    client.owned(0x13E, &[sequence], &end)?;
    client.flush(key)
}

fn certificates(client: &mut Client<'_>) -> io::Result<()> {
    let made = client.primary(&ecc_public(P256, COMMON | SIGN, b""))?;
    let key = made.handle;
    let signature = sign(client, key, &digest(), ECDSA)?;
    client.plain(0x177, &[key], &[blob(&digest()), signature].concat())?;
    let both = [Auth::Empty, Auth::Empty];
    let certify = [&blob(b"nonce")[..], ECDSA].concat();
    client.run(0x148, &[key, key], &both, &certify)?;
    // Public area, creation data, hash and ticket.
    let (_, rest) = take(&made.parameters)?;
    let (_, rest) = take(rest)?;
    let (creation, rest) = take(rest)?;
    let (ticket, _) = crate::layout::split(crate::layout::Field::Ticket, rest)
        .ok_or_else(|| io::Error::other("no ticket"))?;
    let certify = [&blob(b"nonce")[..], &blob(creation), ECDSA, ticket].concat();
    client.owned(0x14A, &[key, key], &certify)?;
    // Issuer, validity and subject are empty, the key usage is digitalSignature.
    let partial = [
        &[
            0x30, 0x17, 0x30, 0, 0x30, 0, 0x30, 0, 0xA3, 0x0F, 0x30, 0x0D, 0x30, 0x0B,
        ][..],
        &[6, 3, 0x55, 0x1D, 0x0F, 4, 4, 3, 2, 7, 0x80],
    ]
    .concat();
    let certify = [&blob(b"")[..], ECDSA, &blob(&partial)].concat();
    client.run(0x197, &[key, key], &both, &certify)?;
    client.flush(key)
}

fn children(client: &mut Client<'_>) -> io::Result<()> {
    let storage = ecc_public(P256, COMMON | RESTRICTED | DECRYPT, b"");
    let parent = client.primary(&storage)?.handle;
    let template = ecc_public(P256, COMMON | SIGN, b"");
    let loaded = client.owned(0x191, &[parent], &[blob(&[0; 4]), blob(&template)].concat())?;
    client.owned(0x150, &[loaded.handle, parent], &blob(b"new value"))?;
    client.flush(loaded.handle)?;

    // One that may be duplicated by whoever runs TPM2_Duplicate in a policy.
    let policy = crate::policies::for_command(client, 0x14B)?;
    let attributes = COMMON & !0x12 | SIGN;
    let public = ecc_public(P256, attributes, &policy);
    let loaded = client.owned(0x191, &[parent], &[blob(&[0; 4]), blob(&public)].concat())?;
    let (_, rest) = take(&loaded.parameters)?;
    let (public, rest) = take(rest)?;
    let (name, _) = take(rest)?;
    let session = crate::policies::session_for(client, 0x14B)?;
    let auth = [Auth::Session(session, 0)];
    let without_inner = [&blob(b"")[..], NONE].concat();
    let duplicated = client
        .run(0x14B, &[loaded.handle, NULL], &auth, &without_inner)?
        .parameters;
    client.flush(loaded.handle)?;
    let (_, rest) = take(&duplicated)?;
    let (duplicate, _) = take(rest)?;
    let rewrap = [blob(duplicate), blob(name), blob(b"")].concat();
    let wrapped = client.owned(0x152, &[NULL, parent], &rewrap)?.parameters;
    let import = [&blob(b"")[..], &blob(public), &wrapped, NONE].concat();
    client.owned(0x156, &[parent], &import)?;
    client.flush(parent)?;
    let persistent = [0x81, 0, 0, 1];
    let kept = client.primary(&storage)?.handle;
    client.owned(0x120, &[OWNER, kept], &persistent)?;
    client.flush(kept)
}
