#!/usr/bin/env python3
"""Writes exchange-0.2.0.json: whole exchanges of protocol 0.2.0, signed secrets, reports and
derived keys, computed with Python's `cryptography` (OpenSSL) and cross-checked with
`joserfc`, so with nothing of this repository.

Everything is derived from fixed seeds, signatures are deterministic (RFC 6979); the output is
the same at every run. Needs: pip install 'cryptography>=43' joserfc
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from joserfc import jwe, jws
from joserfc.jwk import ECKey

# Name: curve, width of a coordinate in bytes, order of the group.
CURVES = {
    "P-256": (ec.SECP256R1(), 32, int(
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)),
    "P-384": (ec.SECP384R1(), 48, int(
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf"
        "581a0db248b0a77aecec196accc52973", 16)),
    "P-521": (ec.SECP521R1(), 66, int(
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
        "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409", 16)),
}
LABEL = b"coconut-svsm kbs authentication 0.2.0\0"
DERIVED = ["SVSM test label", ""]


def stream(seed, length):
    """Bytes that depend on nothing but `seed`."""
    return hashlib.shake_256(seed.encode()).digest(length)


def key(crv, seed):
    curve, _, order = CURVES[crv]
    return ec.derive_private_key(
        int.from_bytes(stream(seed, 80), "big") % (order - 1) + 1, curve)


def wide(crv, number):
    return number.to_bytes(CURVES[crv][1], "big")


def coordinates(crv, private):
    numbers = private.public_key().public_numbers()
    return wide(crv, numbers.x), wide(crv, numbers.y)


def std(data):
    return base64.b64encode(data).decode()


def url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact_json(value, **options):
    return json.dumps(value, separators=(",", ":"), **options).encode()


def jwk(crv, private, **more):
    x, y = coordinates(crv, private)
    return {"kty": "EC", "crv": crv, **more, "x": url(x), "y": url(y)}


def kek(z):
    """RFC 7518, section 4.6.2, without apu and apv."""
    name = b"ECDH-ES+A256KW"
    info = len(name).to_bytes(4, "big") + name + bytes(8) + (256).to_bytes(4, "big")
    return ConcatKDFHash(hashes.SHA256(), 32, info).derive(z)


def sign(private, message):
    """ECDSA with SHA-384, r || s."""
    der = private.sign(message, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))
    return b"".join(n.to_bytes(48, "big") for n in decode_dss_signature(der))


def make_jws(private, header, payload):
    """Compact JWS with ES384; joserfc has to accept it."""
    signed = f"{url(compact_json(header))}.{url(payload)}"
    text = f"{signed}.{url(sign(private, signed.encode()))}"
    public = ECKey.import_key(jwk("P-384", private))
    assert jws.deserialize_compact(text, public, algorithms=["ES384"]).payload == payload
    return text


def spki(private):
    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def encrypt(crv, ours, theirs, name, plaintext):
    """A flattened JWE to `ours`; joserfc has to decrypt it."""
    z = theirs.exchange(ec.ECDH(), ours.public_key())
    cek, iv = stream(name + " cek", 32), stream(name + " iv", 12)
    header = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "epk": jwk(crv, theirs)}
    protected = url(compact_json(header, sort_keys=True))
    wrapped = aes_key_wrap(kek(z), cek)
    sealed = AESGCM(cek).encrypt(iv, plaintext, protected.encode())
    ciphertext, tag = sealed[:-16], sealed[-16:]
    d = wide(crv, ours.private_numbers().private_value)
    judge = ECKey.import_key({**jwk(crv, ours), "d": url(d)})
    text = ".".join([protected, url(wrapped), url(iv), url(ciphertext), url(tag)])
    names = ["ECDH-ES+A256KW", "A256GCM"]
    assert jwe.decrypt_compact(text, judge, algorithms=names).plaintext == plaintext
    members = {"protected": protected, "encrypted_key": url(wrapped), "iv": url(iv),
               "ciphertext": url(ciphertext), "tag": url(tag)}
    return members, [protected.encode(), wrapped, iv, ciphertext, tag]


def evidence_of(tee, measurement, digest):
    """Evidence that carries the digest, and what the digest of the evidence covers."""
    if tee == "snp":
        report = bytearray(stream("report", 1184))
        report[0x50:0x90] = digest + bytes(16)
        return {"Snp": {"report": std(bytes(report))}}, bytes(report)
    sample = {"svn": "1", "report_data": std(digest)}
    if measurement:
        sample["measurement"] = measurement
    return {"Sample": sample}, b"sample\0" + digest + (measurement or "").encode()


def exchange(name, crv, tee="sample", measurement=None, ours="ours", theirs="theirs",
             secret_len=32, state="new", mode="off", counter=0):
    ours, theirs = key(crv, ours), key(crv, theirs)
    server = key("P-384", "server")
    nonce = std(stream(name + " nonce", 32))
    runtime_data = compact_json(
        {"additional-evidence": "", "nonce": nonce,
         "tee-pubkey": jwk(crv, ours, alg="ECDH-ES+A256KW")}, sort_keys=True)
    digest = hashlib.sha384(runtime_data).digest()
    evidence, covered = evidence_of(tee, measurement, digest)
    evidence_digest = hashlib.sha384(covered).digest()

    secret, session_key = stream(name + " secret", secret_len), stream(name + " session", 32)
    volume = "default/sample/test"
    release = {"secret": std(secret), "volume": volume, "generation": 3, "state": state,
               "identity": std(stream("identity", 32)) if state == "formatted" else None,
               "epoch": counter and 7, "counter": counter, "ledger": mode,
               "session_key": std(session_key)}
    members, parts = encrypt(crv, ours, theirs, name, compact_json(release))

    x, y = coordinates(crv, ours)
    fields = [b"0.2.0", tee.encode(), nonce.encode(), crv.encode(), x + y, evidence_digest,
              volume.encode(), *parts]
    transcript = LABEL + b"".join(len(f).to_bytes(4, "big") + f for f in fields)
    token = make_jws(server, {"alg": "ES384", "typ": "JWT", "jwk": jwk("P-384", server)},
                     compact_json({"iss": "vectors", "nonce": nonce, "tee": tee,
                                   "tee-pubkey": jwk(crv, ours, alg="ECDH-ES+A256KW")}))
    return {
        "name": name,
        "d": wide(crv, ours.private_numbers().private_value).hex(),
        "tee": tee,
        "measurement": measurement,
        "negotiation_response": {"version": [0, 2, 0], "nonce": nonce,
                                 "binding": "kbs-runtime-data-sha384", "curves": [crv]},
        "runtime_data": runtime_data.decode(),
        "attestation_request": {"tee": tee, "evidence": evidence, "nonce": nonce,
                                "key": {"crv": crv, "x": std(x), "y": std(y)}},
        "evidence_digest": evidence_digest.hex(),
        "transcript": transcript.hex(),
        "attestation_response": {
            "success": True, "jwe": members, "token": {"Jwt": token},
            "authentication": {"key": std(spki(server)),
                               "signature": std(sign(server, transcript))},
            "session": True,
        },
        "fingerprint": hashlib.sha384(spki(server)).hexdigest(),
        "secret": secret.hex(),
        "session_key": session_key.hex(),
        "release": {k: v for k, v in release.items() if k not in ("secret", "session_key")},
        "derived": {label: HKDF(hashes.SHA384(), 48, None, label.encode()).derive(secret).hex()
                    for label in DERIVED},
    }


def signed_secret(seed, length):
    owner = key("P-384", seed)
    secret = stream(seed + " secret", length)
    payload = compact_json({"secret": url(secret), "volume": "a/b/c", "generation": 2})
    header = {"alg": "ES384", "typ": "svsm-secret+jws", "jwk": jwk("P-384", owner)}
    return {"jws": make_jws(owner, header, payload), "secret": secret.hex(), "volume": "a/b/c",
            "generation": 2, "fingerprint": hashlib.sha384(spki(owner)).hexdigest()}


def report(seq, epoch, counter, kind):
    """In the session of the exchange "with a ledger"."""
    session_key, identity = stream("with a ledger session", 32), stream("identity", 32)
    body = compact_json({"seq": seq, "identity": std(identity), "state": "formatted",
                         "epoch": epoch, "counter": counter, "kind": kind})
    ack = compact_json({"seq": seq, "epoch": epoch, "counter": counter})

    def mac(prefix, text):
        return hmac.digest(session_key, prefix + b"\0" + text, "sha384")

    return {
        "request": {"report": {"body": std(body), "mac": std(mac(b"svsm report", body))}},
        "response": {"ack": {"body": std(ack), "mac": std(mac(b"svsm ack", ack))}},
    }


def search(crv, what, index):
    """The first seed of its series whose key has a coordinate that begins with a zero."""
    number = 0
    while coordinates(crv, key(crv, f"{what} {number}"))[index][0] or crv == "P-521" and \
            coordinates(crv, key(crv, f"{what} {number}"))[index][1]:
        number += 1
    return f"{what} {number}"


def main():
    measurement = stream("measurement", 48).hex()
    exchanges = [
        exchange("sample on P-256", "P-256"),
        exchange("sample on P-384", "P-384", measurement=measurement),
        exchange("sample on P-521", "P-521", secret_len=64),
        exchange("snp on P-256", "P-256", tee="snp"),
        exchange("snp on P-384", "P-384", tee="snp", state="formatted", counter=12345),
        exchange("snp on P-521", "P-521", tee="snp"),
        exchange("with a ledger", "P-384", state="formatted", mode="commit", counter=2**64 - 1),
        *(exchange(f"own {c} begins with zeros on {crv}", crv, ours=search(crv, f"own {c}", i))
          for crv in CURVES for i, c in enumerate("xy")),
        *(exchange(f"sender's {c} begins with zeros on {crv}", crv,
                   theirs=search(crv, f"sender {c}", i))
          for crv in CURVES for i, c in enumerate("xy")),
        exchange("with a strict ledger", "P-384", state="formatted", mode="strict", counter=1),
    ]
    vectors = {
        "exchanges": exchanges,
        "signed_secrets": [signed_secret("owner", 32), signed_secret("other owner", 1000)],
        "reports": [report(1, 8, 40, "open"), report(2, 8, 2**64 - 1, "commit")],
    }
    target = Path(__file__).with_name("exchange-0.2.0.json")
    target.write_text(json.dumps(vectors, indent=1) + "\n")
    print(f"{target.name}: {len(exchanges)} exchanges")


if __name__ == "__main__":
    main()
