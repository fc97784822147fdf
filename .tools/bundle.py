#!/usr/bin/env python3
"""Packs the server for a machine that has nothing but Python's torch: the program, Postgres and a `run` script.

    bundle.py [FOLDER]        FOLDER: where the archive goes; out/bundle unless given

The models stay in the checkout; `run` is told where they are. `make bundle` builds first. The same inputs give the same
archive, byte for byte.
"""

import lzma
import re
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / "target" / "release" / "orfeas"
POSTGRES = ROOT / ".deps" / "postgres"

# What a bare machine is sent is kept small.
ARCHIVE_BYTES_MAX = 25_000_000

# Compresses machine code better by a tenth: calls of one function look the same wherever they are made from.
FILTERS = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 8}]

# 2026-01-01, for every file.
MODIFIED = 1_767_225_600


class Failure(Exception):
    """What went wrong, and what to do about it."""


def version():
    text = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "([^"]+)"', text, re.MULTILINE)
    if not found:
        raise Failure("Cargo.toml names no version.")
    return found.group(1)


def members():
    """Pairs of a name in the archive and a file."""
    if not BINARY.is_file():
        raise Failure("target/release/orfeas isn't there; run `make build` first.")
    if not POSTGRES.is_dir():
        raise Failure(".deps/postgres isn't there; run `make fetch` first.")
    yield "orfeas", BINARY
    yield "run", ROOT / ".tools" / "bundle" / "run"
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        yield name, ROOT / name
    for path in sorted(POSTGRES.rglob("*")):
        if path.is_file() and path.name != ".pins":
            yield f"postgres/{path.relative_to(POSTGRES).as_posix()}", path


def normalised(info):
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = MODIFIED
    info.mode = 0o755 if info.mode & 0o100 else 0o644
    return info


def pack(folder):
    name = f"orfeas-{version()}-x86_64-linux"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{name}.tar.xz"
    unfinished = archive.with_suffix(".unfinished")
    with lzma.open(unfinished, "wb", format=lzma.FORMAT_XZ, filters=FILTERS) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for member, path in members():
                tar.add(path, arcname=f"{name}/{member}", recursive=False, filter=normalised)
    unfinished.rename(archive)
    return archive


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "out" / "bundle"
    archive = pack(folder)
    size = archive.stat().st_size
    print(f"{archive} ({size / 1e6:.1f} MB)")
    if size > ARCHIVE_BYTES_MAX:
        raise Failure(f"the archive has more than {ARCHIVE_BYTES_MAX / 1e6:.0f} MB; see what the program grew by.")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        print(f"bundle: {failure}", file=sys.stderr)
        sys.exit(1)
