#!/usr/bin/env python3
"""Checks igvmmeasure against an independent implementation.

Walks an IGVM file on its own (layout: igvm_defs), feeds what it finds to the launch
context of the sev-snp-measure package, and compares the result with what igvmmeasure
prints, once for each rule about pages without data.

usage: check-measurement.py IGVMMEASURE FILE...
"""

import struct
import subprocess
import sys

try:
    from sevsnpmeasure.gctx import GCTX
except ImportError:
    sys.exit("check-measurement.py: sev-snp-measure is missing; in a virtual environment: "
             "pip install sev-snp-measure==0.0.13")

PAGE = 4096
NATIVE, SEV_SNP = 0, 2                                  # platform types
PLATFORM, AREA, PAGE_DATA, INSERT, VP_CONTEXT = 0x1, 0x301, 0x302, 0x303, 0x304
NORMAL, SECRETS, CPUID_DATA, CPUID_XF = range(4)        # page data types
UNMEASURED, SHARED = 2, 4                               # page data flags


def headers(file):
    """Every variable header: type and body."""
    magic, version, offset, size = struct.unpack_from("<4sIII", file)
    assert magic == b"IGVM" and version in (1, 2), "not an IGVM file"
    end = offset + size
    while offset < end:
        kind, length = struct.unpack_from("<II", file, offset)
        yield kind, file[offset + 8:offset + 8 + length]
        offset += 8 + (length + 7) // 8 * 8


def launch_digest(file, native_zero):
    """The digest for SEV-SNP or, where the file lacks it, for the native platform."""
    platforms = {}
    for kind, body in headers(file):
        if kind == PLATFORM:
            mask, _vtl, platform = struct.unpack_from("<IBB", body)
            platforms[platform] = mask
    mask = platforms.get(SEV_SNP, platforms.get(NATIVE))
    assert mask, "neither SEV-SNP nor native"

    gctx, areas = GCTX(), {}
    for kind, body in headers(file):
        if kind == AREA:
            size, index = struct.unpack_from("<QI", body)
            areas[index] = size
        elif kind == INSERT:
            gpa, applies, index = struct.unpack_from("<QII", body)
            if applies & mask:
                gctx.update_unmeasured_pages(gpa, areas[index])
        elif kind == PAGE_DATA:
            gpa, applies, data, flags, page_type = struct.unpack_from("<QIIIH", body)
            if not applies & mask or flags & SHARED:
                continue
            if page_type == SECRETS:
                gctx.update_secrets_page(gpa)
            elif page_type in (CPUID_DATA, CPUID_XF):
                gctx.update_cpuid_page(gpa)
            elif flags & UNMEASURED:
                gctx.update_unmeasured_pages(gpa, PAGE)
            elif not data and native_zero:
                gctx.update_zero_pages(gpa, PAGE)
            else:
                gctx.update_normal_pages(gpa, file[data:data + PAGE] if data else bytes(PAGE))
        elif kind == VP_CONTEXT:
            _gpa, applies, data = struct.unpack_from("<QII", body)
            if applies & mask:
                gctx.update_vmsa_page(file[data:data + PAGE])
    return gctx.hex_ld()


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    failed = False
    for path in sys.argv[2:]:
        with open(path, "rb") as stream:
            file = stream.read()
        for native_zero in (False, True):
            command = [sys.argv[1], path, "measure", "-b"]
            command += ["--native-zero"] if native_zero else []
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                sys.exit(f"check-measurement.py: {result.stderr.strip()}")
            expected, found = launch_digest(file, native_zero), result.stdout.strip()
            verdict = "equal" if expected == found else "DIFFERENT"
            rule = "native zero pages" if native_zero else "pages of zeroes"
            print(f"{path}, {rule}: {verdict}\n  independent {expected}\n  igvmmeasure {found}")
            failed |= expected != found
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
