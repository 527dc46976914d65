#!/usr/bin/env python3
"""Makes the signed payloads beside this file, with tools that know nothing of uefivars:
openssl, efitools (cert-to-efi-sig-list, sign-efi-sig-list), sbsigntool (sbvarsign) and
virt-firmware (virt-fw-vars).

    make.py        needs openssl, efitools and sbsigntool from the distribution, and
                   virt-fw-vars from the Python package virt-firmware in PATH

Keys are made anew and thrown away, so each run changes every file. What each file is
stands where it is made.
"""

import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import uuid

OUT = pathlib.Path(__file__).resolve().parent
OWNER = "11111111-2222-3333-4444-123456789abc"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
PRIVATE = "605dab50-e046-4300-abb6-3dd810dd8b23"
PKCS7 = "4aafd29d-68df-49ee-8aa9-347d375665a7"
X509 = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"
SHA256 = "c1c41626-504c-4092-aca9-41f936934328"


def run(*command, **keywords):
    result = subprocess.run([str(part) for part in command], capture_output=True, **keywords)
    if result.returncode:
        raise SystemExit(f"{command}: {result.stdout!r} {result.stderr!r}")


def guid(text):
    return uuid.UUID(text).bytes_le


def time(text):
    """EFI_TIME of YYYY-MM-DD HH:MM:SS."""
    date, clock = text.split()
    year, month, day = map(int, date.split("-"))
    return struct.pack("<HBBBBBBIhBB", year, month, day, *map(int, clock.split(":")), 0, 0, 0, 0, 0)


def siglist(kind, *signatures):
    size = 16 + len(signatures[0])
    body = b"".join(guid(OWNER) + signature for signature in signatures)
    return guid(kind) + struct.pack("<III", 28 + len(body), 0, size) + body


def key(name, algorithm, *extra, issuer=None, subject=None, ca=None):
    """A key and its certificate, name.key, name.crt and name.der."""
    options = {
        "rsa": ["-newkey", f"rsa:{algorithm[3:]}"],
        "p": ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:P-{algorithm[1:]}"],
    }["rsa" if algorithm.startswith("rsa") else "p"]
    if ca is not None:
        extra += ("-addext", f"basicConstraints=critical,CA:{'TRUE' if ca else 'FALSE'}")
    if issuer:
        extra += ("-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key")
    run("openssl", "req", "-x509", "-sha256", "-nodes", "-days", "36500", "-subj",
        f"/CN={subject or name}/", *options, "-keyout", f"{name}.key", "-out", f"{name}.crt", *extra)
    run("openssl", "x509", "-in", f"{name}.crt", "-outform", "DER", "-out", f"{name}.der")


def efitools(variable, signer, when, payload, out, *options):
    pathlib.Path("payload").write_bytes(payload)
    run("sign-efi-sig-list", "-t", when, *options, "-c", f"{signer}.crt", "-k", f"{signer}.key",
        variable, "payload", out)


def sbvarsign(variable, namespace, signer, payload, out, *options):
    pathlib.Path("payload").write_bytes(payload)
    run("sbvarsign", "--key", f"{signer}.key", "--cert", f"{signer}.crt", "--guid", namespace,
        "--output", out, *options, variable, "payload")


def openssl(variable, namespace, attributes, signer, when, payload, out, *options):
    stamp = time(when)
    content = variable.encode("utf-16-le") + guid(namespace) + struct.pack("<I", attributes)
    pathlib.Path("content").write_bytes(content + stamp + payload)
    run("openssl", "cms", "-sign", "-binary", "-in", "content", "-outform", "DER", "-out", "signature",
        "-signer", f"{signer}.crt", "-inkey", f"{signer}.key", "-md", "sha256", *options)
    signature = pathlib.Path("signature").read_bytes()
    header = struct.pack("<IHH", 24 + len(signature), 0x0200, 0x0EF1) + guid(PKCS7)
    pathlib.Path(out).write_bytes(stamp + header + signature + payload)


def main():
    for name in ("pk", "pk2", "kek", "kek2", "other"):
        key(name, "rsa2048")
    key("rsa3072", "rsa3072")
    key("rsa4096", "rsa4096")
    key("p256", "p256")
    key("p384", "p384")
    key("root", "rsa4096", ca=True)
    key("middle", "rsa2048", issuer="root", ca=True)
    key("leaf", "rsa2048", issuer="middle", ca=False)
    key("p384root", "p384", ca=True)
    key("p256leaf", "p256", issuer="p384root", ca=False)
    key("noca", "rsa2048", ca=False)
    key("bynoca", "rsa2048", issuer="noca", ca=False)

    der = lambda name: pathlib.Path(f"{name}.der").read_bytes()
    lists = lambda *names: b"".join(siglist(X509, der(name)) for name in names)
    for name in ("pk", "kek", "other"):
        run("cert-to-efi-sig-list", "-g", OWNER, f"{name}.crt", f"{name}.esl")
        assert pathlib.Path(f"{name}.esl").read_bytes() == lists(name)
    everybody = lists("kek", "kek2", "rsa3072", "rsa4096", "p256", "p384", "root", "p384root", "noca")
    pathlib.Path("kek-all.esl").write_bytes(everybody)
    one = siglist(SHA256, b"\x01" * 32)
    two = siglist(SHA256, b"\x01" * 32, b"\x02" * 32)

    # The way from setup to user mode, and what the owner does there.
    efitools("PK", "pk", "2025-01-01 00:00:00", lists("pk"), "pk-self.auth")
    efitools("PK", "other", "2025-01-01 00:00:00", lists("pk"), "pk-by-other.auth")
    efitools("KEK", "pk", "2025-01-01 00:00:00", everybody, "kek.auth")
    efitools("KEK", "other", "2025-01-02 00:00:00", lists("other"), "kek-by-other.auth")
    efitools("KEK", "pk", "2025-01-02 00:00:00", lists("other"), "kek-append.auth", "-a")
    efitools("db", "kek", "2025-01-01 00:00:00", lists("other"), "db.auth")
    efitools("db", "kek", "2025-02-01 00:00:00", lists("pk", "kek"), "db-later.auth")
    efitools("db", "kek", "2024-02-01 00:00:00", lists("pk"), "db-earlier.auth")
    efitools("db", "pk", "2025-03-01 00:00:00", lists("pk"), "db-by-pk.auth")
    efitools("db", "other", "2025-03-01 00:00:00", lists("pk"), "db-by-other.auth")
    efitools("db", "kek", "2025-03-01 00:00:00", b"", "db-delete.auth")
    efitools("dbx", "kek", "2025-01-01 00:00:00", one, "dbx.auth")
    efitools("dbx", "kek", "2024-01-01 00:00:00", two, "dbx-append-earlier.auth", "-a")
    efitools("dbx", "kek2", "2025-05-01 00:00:00", two, "dbx-append-kek2.auth", "-a")
    efitools("dbx", "kek", "2025-06-01 00:00:00", two[:-1], "dbx-cut-list.auth")
    efitools("dbx", "kek", "2025-06-01 00:00:00", two + b"\0", "dbx-long-list.auth")
    efitools("PK", "pk", "2025-02-01 00:00:00", lists("pk2"), "pk-to-pk2.auth")
    efitools("PK", "other", "2025-02-01 00:00:00", lists("other"), "pk-to-other.auth")
    efitools("PK", "pk", "2025-02-01 00:00:00", b"", "pk-delete.auth")
    efitools("PK", "pk2", "2025-03-01 00:00:00", b"", "pk2-delete.auth")
    efitools("PK", "pk", "2025-02-01 00:00:00", lists("pk", "pk2"), "pk-two.auth")

    # sbsigntool takes the time of day for the time stamp.
    sbvarsign("db", SECURITY, "kek", lists("kek"), "sb-db.auth", "--attr",
              "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS,TIME_BASED_AUTHENTICATED_WRITE_ACCESS")
    sbvarsign("db", SECURITY, "kek", lists("kek"), "sb-db-append.auth")
    private = "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS,TIME_BASED_AUTHENTICATED_WRITE_ACCESS"
    sbvarsign("Private", PRIVATE, "other", b"first", "sb-private.auth", "--attr", private)

    # Private variables: owner, later owner, somebody else, and the end.
    at = 0x27
    for name, signer, when, payload, attributes in [
        ("private", "other", "2025-01-01 00:00:00", b"first", at),
        ("private-later", "other", "2025-01-02 00:00:00", b"second", at),
        ("private-append", "other", "2024-01-01 00:00:00", b" third", at | 0x40),
        ("private-by-kek", "kek", "2025-02-01 00:00:00", b"theft", at),
        ("private-delete", "other", "2025-03-01 00:00:00", b"", at),
        ("private-delete-by-kek", "kek", "2025-03-01 00:00:00", b"", at),
    ]:
        openssl("Private", PRIVATE, attributes, signer, when, payload, f"{name}.auth", "-noattr")
    openssl("Private", PRIVATE, at, "leaf", "2025-01-01 00:00:00", b"chained", "private-chain.auth",
            "-noattr", "-certfile", "middle.crt")

    # Algorithms and ways to sign.
    month = 1
    for name, signer, options in [
        ("rsa2048-sha384", "kek", ["-noattr", "-md", "sha384"]),
        ("rsa2048-sha512", "kek", ["-noattr", "-md", "sha512"]),
        ("rsa2048-attributes", "kek", []),
        ("rsa2048-keyid", "kek", ["-noattr", "-keyid"]),
        ("rsa3072", "rsa3072", ["-noattr"]),
        ("rsa4096-sha512-attributes", "rsa4096", ["-md", "sha512"]),
        ("p256", "p256", ["-noattr"]),
        ("p256-attributes", "p256", []),
        ("p384-sha384", "p384", ["-noattr", "-md", "sha384"]),
        ("p384-sha256", "p384", ["-noattr"]),
        ("chain", "leaf", ["-noattr", "-certfile", "middle.crt"]),
        ("chain-p256-p384", "p256leaf", ["-noattr"]),
        # Refused.
        ("refused-chain-cut", "leaf", ["-noattr"]),
        ("refused-not-a-ca", "bynoca", ["-noattr"]),
        ("refused-sha1", "kek", ["-noattr", "-md", "sha1"]),
        ("refused-pss", "kek", ["-noattr", "-keyopt", "rsa_padding_mode:pss"]),
        ("refused-content-inside", "kek", ["-noattr", "-nodetach"]),
        ("refused-no-certificate", "kek", ["-noattr", "-nocerts"]),
    ]:
        openssl("db", SECURITY, at, signer, f"2026-{month:02}-01 00:00:00", one, f"way-{name}.auth", *options)
        month = month % 12 + 1
    # Two signers, each of whom would do.
    openssl("db", SECURITY, at, "kek", "2026-01-02 00:00:00", one, "way-refused-two-signers.auth",
            "-noattr", "-signer", "kek2.crt", "-inkey", "kek2.key")
    # Another attribute signed than the request has.
    openssl("db", SECURITY, at | 0x40, "kek", "2026-01-03 00:00:00", one, "refused-attribute.auth", "-noattr")
    # Another name and another namespace.
    openssl("dbx", SECURITY, at, "kek", "2026-01-03 00:00:00", one, "refused-name.auth", "-noattr")
    openssl("db", GLOBAL, at, "kek", "2026-01-03 00:00:00", one, "refused-namespace.auth", "-noattr")

    # Unsigned, for setup mode: what virt-firmware writes.
    os.mkdir("virt")
    pathlib.Path("empty.json").write_text('{\n    "version": 2,\n    "variables": []\n}\n')
    run("virt-fw-vars", "--input", "empty.json", "--set-pk", OWNER, "pk.crt", "--add-kek", OWNER, "kek.crt",
        "--add-db", OWNER, "other.crt", "--output-auth", "virt")
    for name in ("PK", "KEK", "db"):
        shutil.copy(f"virt/{name}.auth", f"virt-{name}.auth")

    for pattern in ("*.auth", "*.der", "*.esl"):
        for old in OUT.glob(pattern):
            old.unlink()
        for new in pathlib.Path(".").glob(pattern):
            shutil.copy(new, OUT / new.name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        main()
