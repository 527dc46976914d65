//! What takes the largest numbers: keys of every size are made and used.

use std::io;

use crate::client::{
    COMMON, Client, DECRYPT, RESTRICTED, SHA256, SIGN, blob, ecc_public, rsa_public,
};

const SHA512: &[u8] = &[0, 0x0D];

/// A public area with these attributes, and two schemes to sign with.
type Family = (fn(u32) -> Vec<u8>, [u16; 2]);

/// RSASSA and RSAPSS; ECDSA and EC-Schnorr.
const FAMILIES: [Family; 7] = [
    (|attributes| rsa_public(1024, attributes), [0x14, 0x16]),
    (|attributes| rsa_public(2048, attributes), [0x14, 0x16]),
    (|attributes| rsa_public(3072, attributes), [0x14, 0x16]),
    (|attributes| ecc_public(3, attributes, b""), [0x18, 0x1C]),
    (|attributes| ecc_public(4, attributes, b""), [0x18, 0x1C]),
    (|attributes| ecc_public(5, attributes, b""), [0x18, 0x1C]),
    (|attributes| ecc_public(0x10, attributes, b""), [0x18, 0x1C]),
];

/// Makes, uses and flushes keys of every size.
pub fn largest(client: &mut Client<'_>) -> io::Result<()> {
    for (public, schemes) in FAMILIES {
        let key = client.primary(&public(COMMON | SIGN))?.handle;
        for scheme in schemes {
            for (hash, size) in [(SHA256, 32), (SHA512, 64)] {
                let scheme = [&scheme.to_be_bytes()[..], hash].concat();
                let digest = vec![7; size];
                sign(client, key, &digest, &scheme)?;
            }
        }
        client.flush(key)?;
        let parent = client
            .primary(&public(COMMON | RESTRICTED | DECRYPT))?
            .handle;
        let template = blob(&public(COMMON | DECRYPT));
        let parameters = [blob(&[0; 4]), template, vec![0; 6]].concat();
        client.owned(0x153, &[parent], &parameters)?;
        client.flush(parent)?;
    }
    Ok(())
}

/// The signature (TPMT_SIGNATURE) of a digest by an unrestricted key.
pub fn sign(
    client: &mut Client<'_>,
    key: u32,
    digest: &[u8],
    scheme: &[u8],
) -> io::Result<Vec<u8>> {
    let ticket = [0x80, 0x24, 0x40, 0, 0, 7, 0, 0];
    let parameters = [&blob(digest)[..], scheme, &ticket].concat();
    Ok(client.owned(0x15D, &[key], &parameters)?.parameters)
}
