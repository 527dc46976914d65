#!/usr/bin/env python3
"""Writes exchange-p521.json: whole exchanges of protocol 0.1.0, computed with Python's
`cryptography` (OpenSSL) and cross-checked with `joserfc`, so with nothing of this
repository.

Everything is derived from fixed seeds; the output is the same at every run.
Needs: pip install cryptography joserfc
"""

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from joserfc import jwe
from joserfc.jwk import ECKey

WIDTH = 66
ORDER = int(
    "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
    "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409", 16)
LABELS = ["SVSM test label", ""]


def stream(seed, length):
    """Bytes that depend on nothing but `seed`."""
    return hashlib.shake_256(seed.encode()).digest(length)


def key(seed):
    return ec.derive_private_key(
        int.from_bytes(stream(seed, 80), "big") % (ORDER - 1) + 1, ec.SECP521R1())


def wide(number):
    return number.to_bytes(WIDTH, "big")


def coordinates(private):
    numbers = private.public_key().public_numbers()
    return wide(numbers.x), wide(numbers.y)


def std(data):
    return base64.b64encode(data).decode()


def url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def kek(z):
    """RFC 7518, section 4.6.2, without apu and apv."""
    name = b"ECDH-ES+A256KW"
    info = len(name).to_bytes(4, "big") + name + bytes(8) + (256).to_bytes(4, "big")
    return ConcatKDFHash(hashes.SHA256(), 32, info).derive(z)


def search(what, wanted):
    """The first seed of its series for which `wanted` holds."""
    number = 0
    while not wanted(f"{what} {number}"):
        number += 1
    return f"{what} {number}"


def exchange(name, ours_seed, theirs_seed, secret, challenge, params):
    ours, theirs = key(ours_seed), key(theirs_seed)
    x, y = coordinates(ours)
    epk_x, epk_y = coordinates(theirs)
    z = theirs.exchange(ec.ECDH(), ours.public_key())
    cek, iv = stream(name + " cek", 32), stream(name + " iv", 12)
    header = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM",
              "epk": {"crv": "P-521", "kty": "EC", "x": url(epk_x), "y": url(epk_y)}}
    protected = url(json.dumps(header, separators=(",", ":")).encode())
    wrapped = aes_key_wrap(kek(z), cek)
    sealed = AESGCM(cek).encrypt(iv, secret, protected.encode())
    ciphertext, tag = sealed[:-16], sealed[-16:]

    # The judge: another implementation decrypts the same thing.
    d = ours.private_numbers().private_value
    jwk = ECKey.import_key({"kty": "EC", "crv": "P-521", "x": url(x), "y": url(y),
                            "d": url(wide(d))})
    compact = ".".join([protected, url(wrapped), url(iv), url(ciphertext), url(tag)])
    names = ["ECDH-ES+A256KW", "A256GCM"]
    assert jwe.decrypt_compact(compact, jwk, algorithms=names).plaintext == secret

    parts = {"EcPublicKeyBytes": x + y, "Challenge": challenge}
    report_data = hashlib.sha512(b"".join(parts[p] for p in params)).digest()
    return {
        "name": name,
        "d": wide(d).hex(),
        "negotiation_response": {"challenge": std(challenge), "params": params},
        "key": {"x": std(x), "y": std(y)},
        "report_data": report_data.hex(),
        "z": z.hex(),
        "attestation_response": {
            "success": True,
            "secret": std(ciphertext),
            "decryption": {"epk": {"x": std(epk_x), "y": std(epk_y)},
                           "wrapped_cek": std(wrapped),
                           "aad": std(protected.encode()),
                           "iv": std(iv), "tag": std(tag)},
            "token": {"Jwt": "e30.e30.AA"},
        },
        "secret": secret.hex(),
        "derived": {label: HKDF(hashes.SHA384(), 48, None, label.encode()).derive(secret).hex()
                    for label in LABELS},
    }


def main():
    both = ["EcPublicKeyBytes", "Challenge"]
    swapped = ["Challenge", "EcPublicKeyBytes"]
    zeros = bytes(2)

    def shared(theirs):
        return key(theirs).exchange(ec.ECDH(), key("ours").public_key())

    cases = [
        ("32-byte secret", "ours", "theirs", 32, 16, both),
        ("challenge first", "ours", "theirs 2", 48, 32, swapped),
        ("1000-byte secret", "ours 2", "theirs", 1000, 32, both),
        ("own x begins with zeros",
         search("own x", lambda s: coordinates(key(s))[0].startswith(zeros)),
         "theirs", 32, 32, both),
        ("own y begins with zeros",
         search("own y", lambda s: coordinates(key(s))[1].startswith(zeros)),
         "theirs", 32, 32, both),
        ("sender's x begins with zeros", "ours",
         search("sender x", lambda s: coordinates(key(s))[0].startswith(zeros)),
         32, 32, both),
        ("sender's y begins with zeros", "ours",
         search("sender y", lambda s: coordinates(key(s))[1].startswith(zeros)),
         32, 32, both),
        ("Z begins with zeros", "ours",
         search("z", lambda s: shared(s).startswith(zeros)), 32, 32, both),
    ]
    vectors = [
        exchange(name, ours, theirs, stream(name + " secret", secret),
                 stream(name + " challenge", challenge), params)
        for name, ours, theirs, secret, challenge, params in cases
    ]
    target = Path(__file__).with_name("exchange-p521.json")
    target.write_text(json.dumps(vectors, indent=1) + "\n")
    print(f"{target.name}: {len(vectors)} exchanges")


if __name__ == "__main__":
    main()
