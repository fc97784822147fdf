#!/usr/bin/env python3
"""Checks what compiler and clippy don't: which module may import which, how long a file may be, what may lie at the
top, and that no file names a registry's host or a folder of one machine. Prints every offence; exits 1 if there is one.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FILE_LINES_MAX = 450

ANYTHING = None

# Each top-level module and what it may import of the others. `conversion` holds the words that all others share (ids,
# owners, states) and imports nothing. `graphql` and `worker` meet only in Postgres.
MAY_IMPORT = {
    "conversion": set(),
    "image": set(),
    "mesh": set(),
    "telemetry": {"conversion"},
    "storage": set(),
    "egress": set(),
    "auth": {"conversion"},
    "decoder": {"image"},
    "inference": {"image", "mesh", "telemetry"},
    "pipeline": {"image", "decoder", "mesh", "inference", "conversion", "telemetry"},
    "evaluation": {"conversion", "mesh", "pipeline"},
    "db": {"conversion", "auth"},
    "worker": {"conversion", "image", "decoder", "mesh", "inference", "pipeline", "storage", "db", "telemetry"},
    "graphql": {"conversion", "image", "decoder", "auth", "storage", "db", "egress"},
    "retention": {"conversion", "db", "storage"},
    "backup": {"conversion", "db", "storage"},
    # What it tells is asked of the schema.
    "webhook": {"auth", "conversion", "db", "egress", "graphql", "telemetry"},
    "http": {"graphql", "auth", "conversion", "image", "storage", "db", "telemetry"},
    # Their options' types.
    "config": {"auth", "conversion", "db", "decoder", "egress", "graphql", "http", "image", "inference", "mesh", "pipeline", "storage", "telemetry", "worker"},
    # `convert`, `doctor` and `models` work without a server; `bench` measures what a worker does with the queue; `keys` checks
    # hooks.
    "cli": {"app", "auth", "backup", "config", "conversion", "db", "decoder", "egress", "evaluation", "graphql", "image", "inference", "mesh", "pipeline", "retention", "storage", "telemetry", "worker"},
    "app": ANYTHING,
}
# Import nothing and are anybody's: how an error is written into a log, and where tests let a node die.
MAY_IMPORT["error_chain"] = set()
MAY_IMPORT["crash"] = set()
FOR_ALL = {"error_chain", "crash"}
# Modules that only these may import.
ONLY_FOR = {"config": {"app", "cli"}}

TOP_LEVEL = {
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "benches",
    "docker-compose.yml",
    "docs",
    "examples",
    "migrations",
    "models",
    "schema.graphql",
    "src",
    "tests",
    "web",
}

# Put together from parts, so that this file passes its own check.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("crates", "io/api"),
        ("static", "crates", "io"),
        ("index", "crates", "io"),
        ("download", "pytorch", "org"),
        ("static", "rust-lang", "org"),
        ("sh", "rustup", "rs"),
        ("proxy", "golang", "org"),
    )
]
FOLDERS = ["/" + folder for folder in ("work/", "root/", "home/", "tmp/embedded", "Users/")]
FORBIDDEN = re.compile("|".join(re.escape(text) for text in HOSTS) + "|" + "(?<![\\w./$}-])(?:" + "|".join(re.escape(text) for text in FOLDERS) + ")")

# cargo writes the name of its index into this one by itself.
UNSEARCHED = {"Cargo.lock"}
TEXT_BYTES_MAX = 2_000_000


def tracked_files():
    """What git tracks or would track, that is there."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    names = sorted(set(listing.stdout.decode("utf-8", "surrogateescape").split("\0")) - {""})
    return [name for name in names if (ROOT / name).is_file()]


def top_level_offences(names):
    for top in sorted({name.split("/")[0] for name in names}):
        if top not in TOP_LEVEL and not top.startswith("."):
            yield f"{top}: the top level holds what TOP_LEVEL in .tools/tidy.py lists and dotfiles, nothing else"


def text_offences(name, text):
    if name in UNSEARCHED:
        return
    for number, line in enumerate(text.splitlines(), 1):
        if found := FORBIDDEN.search(line):
            yield f"{name}:{number}: names {found.group()!r}, a registry's host or a folder of one machine"


def length_offences(name, text):
    lines = text.count("\n")
    if name.endswith(".rs") and lines > FILE_LINES_MAX:
        yield f"{name}: {lines} lines, and {FILE_LINES_MAX} is the most; split it by noun"


def without_comments(text):
    """Line comments go; a path in a doc comment is a link, not an import. Strings stay: none holds a path of ours."""
    return re.sub(r"//[^\n]*", "", text)


def imported_modules(text):
    """The top-level modules named by `crate::x`, `crate::{x::…, y}` and, in the binary, `orfeas::x`."""
    found = set()
    for match in re.finditer(r"\bcrate::(\{|\w+)", text):
        if match.group(1) == "{":
            found.update(first_names(text, match.end()))
        else:
            found.add(match.group(1))
    return found


def first_names(text, start):
    """The first name of each item of a brace list that was opened just before `start`."""
    names, depth, expects_name = set(), 0, True
    for token in re.finditer(r"\w+|[{},]", text[start:]):
        word = token.group()
        if word == "{":
            depth += 1
        elif word == "}":
            if depth == 0:
                break
            depth -= 1
        elif word == ",":
            expects_name = depth == 0
        elif depth == 0 and expects_name:
            names.add(word)
            expects_name = False
    return names


def import_offences(name, text):
    parts = Path(name).parts
    if parts[0] != "src" or not name.endswith(".rs") or name in ("src/lib.rs", "src/main.rs"):
        return
    module = parts[1].removesuffix(".rs")
    if module not in MAY_IMPORT:
        yield f"{name}: module {module} is not in MAY_IMPORT in .tools/tidy.py"
        return
    allowed = MAY_IMPORT[module]
    for imported in sorted(imported_modules(without_comments(text)) & MAY_IMPORT.keys() - {module} - FOR_ALL):
        is_reserved = module not in ONLY_FOR.get(imported, {module})
        if is_reserved or (allowed is not ANYTHING and imported not in allowed):
            yield f"{name}: {module} may not import {imported}"


def main():
    names = tracked_files()
    offences = list(top_level_offences(names))
    for name in names:
        path = ROOT / name
        if path.is_symlink() or path.stat().st_size > TEXT_BYTES_MAX:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        offences += text_offences(name, text)
        offences += length_offences(name, text)
        offences += import_offences(name, text)
    for offence in offences:
        print(offence)
    if offences:
        print(f"tidy: {len(offences)} offences")
        return 1
    print(f"tidy: {len(names)} files in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
