"""What the benches of this folder stand on: packages, a Postgres, servers as processes, and what these use.

Python's standard library, and psycopg once `ensure_packages` has installed it.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import venv
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGES = ROOT / "out" / "bench" / "load"
PROGRAM = ROOT / "target" / "release" / "orfeas"
NODE = shutil.which("node") or str(ROOT / ".deps" / "node" / "bin" / "node")
TICKS = os.sysconf("SC_CLK_TCK")


def ensure_packages(npm=True):
    """Installs what requirements.txt and package.json pin, once, and goes on in that Python."""
    python = PACKAGES / "venv" / "bin" / "python"
    if Path(sys.executable) != python:
        pins = (HERE / "requirements.txt").read_text()
        installed = PACKAGES / "venv" / "requirements.txt"
        if not installed.is_file() or installed.read_text() != pins:
            venv.create(PACKAGES / "venv", with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "-r", HERE / "requirements.txt"], check=True)
            installed.write_text(pins)
        os.execv(python, [python, *sys.argv])
    if npm and not (PACKAGES / "node_modules" / "graphile-worker").is_dir():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, PACKAGES)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=PACKAGES, check=True, stdout=subprocess.DEVNULL)


class Postgres:
    """A Postgres of its own in a folder, from the tree that `make` unpacks; with its own defaults but for the connections."""

    def __init__(self, folder):
        tree = next((ROOT / ".deps" / "postgres").glob("*/pginstall*"))
        self.sockets = folder / "sockets"
        data = folder / "data"
        user = next((name for name in ("postgres", "nobody") if os.geteuid() == 0 and known(name)), None)
        for path in (folder, self.sockets, data):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)
            if user:
                shutil.chown(path, user)
        as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "cwd": "/"} if user else {}
        if not (data / "PG_VERSION").is_file():
            data.chmod(0o700)
            make = [tree / "bin" / "initdb", "-D", data, "-U", "orfeas", "-A", "trust", "-E", "UTF8", "--locale=C"]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL, **as_user)
        settings = {"listen_addresses": "", "unix_socket_directories": self.sockets, "max_connections": 200, "timezone": "UTC"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = open(folder / "log", "ab")
        self.process = subprocess.Popen([tree / "bin" / "postgres", "-D", data, *options], stdout=log, stderr=log, **as_user)
        wait_until(lambda: self.answers(), "Postgres does not answer")

    def answers(self):
        import psycopg

        try:
            self.connect("postgres").close()
            return True
        except psycopg.OperationalError:
            return False

    def url(self, database):
        return f"postgres:///{database}?host={self.sockets}&port=5432&user=orfeas&sslmode=disable"

    def connect(self, database):
        import psycopg

        return psycopg.connect(host=str(self.sockets), user="orfeas", dbname=database, autocommit=True)

    def create(self, database):
        with self.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {database} TEMPLATE template0")

    def wal(self):
        """How far the write-ahead log has come, in bytes."""
        with self.connect("postgres") as connection:
            return float(connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").fetchone()[0])

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def known(user):
    try:
        pwd.getpwnam(user)
        return True
    except KeyError:
        return False


def wait_until(is_so, otherwise, seconds=60):
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise SystemExit(otherwise)
        time.sleep(0.05)


class Server:
    """Processes that serve together; the first line that each prints says that it is ready."""

    def __init__(self, name, url, processes, database):
        self.name, self.url, self.processes, self.database = name, url, processes, database
        self.keys = []

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start(command, environment, log, ready):
    """Starts a process and reads its lines until `ready` finds something in one."""
    output = open(log, "ab")
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=output, text=True)
    for line in process.stdout:
        if found := ready(line.strip()):
            # What it prints later must not fill the pipe.
            threading.Thread(target=lambda: [None for _ in process.stdout], daemon=True).start()
            return process, found
    raise SystemExit(f"{command[0]} ended by itself: see {log}")


def orfeas(postgres, folder, database="orfeas", **settings):
    """A node with a database and a store of its own."""
    postgres.create(database)
    store = folder / f"{database}-store"
    store.mkdir(parents=True, exist_ok=True)
    environment = {
        "DATABASE_URL": postgres.url(database),
        "ORFEAS_DATA_DIR": str(folder / f"{database}-data"),
        "ORFEAS_STORAGE": f"file://{store}",
        "ORFEAS_LISTEN": "127.0.0.1:0",
        "ORFEAS_METRICS_LISTEN": "127.0.0.1:0",
        "ORFEAS_DEVICE": "cpu",
        "ORFEAS_LOG": "warn",
        **settings,
    }

    def address(line):
        return line.split()[-1].removesuffix("/graphql") if line.startswith("API") else None

    process, url = start([PROGRAM, "serve"], environment, folder / f"{database}.log", address)
    server = Server("orfeas", url, [process], database)
    token = [PROGRAM, "token", "--user", "bench", "--role", "admin"]
    told = subprocess.run(token, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
    server.token = told.stdout.split()[-1]
    server.store = store
    return server


def ask(server, query, variables=None):
    """Asks a node as an admin."""
    body = json.dumps({"query": query, "variables": variables or {}}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {server.token}"}
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/graphql", body, headers)) as response:
        answer = json.load(response)
    if "errors" in answer:
        raise SystemExit(answer["errors"][0]["message"])
    return answer["data"]


def make_keys(server, count, **quotas):
    """Keys of a node, by its API."""
    create = "mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { apiKey { id } secret } }"
    for number in range(count):
        made = ask(server, create, {"input": {"name": f"bench {number}", **quotas}})["createApiKey"]
        server.keys.append({"keyId": made["apiKey"]["id"], "secret": made["secret"]})


def models(folder, *names):
    """A folder with these models, from the tests' or the checkout's."""
    for name in names:
        found = next(path / name for path in (ROOT / "tests" / "fixtures" / "models", ROOT / "models") if (path / name).is_dir())
        (folder / "models").mkdir(parents=True, exist_ok=True)
        link = folder / "models" / name
        if not link.exists():
            link.symlink_to(found)
    return str(folder / "models")


def ball(path, side=64):
    """A small picture: a disc on nothing."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    rows = bytearray()
    for y in range(side):
        rows.append(0)
        for x in range(side):
            inside = (x - side / 2 + 0.5) ** 2 + (y - side / 2 + 0.5) ** 2 < (0.4 * side) ** 2
            rows += bytes((200, 80, 40, 255)) if inside else bytes(4)
    header = side.to_bytes(4, "big") * 2 + bytes((8, 6, 0, 0, 0))
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts))
    return path


def family(root):
    """A process and all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, open_ids = [], [root]
    while open_ids:
        found.append(open_ids.pop())
        open_ids += parents.get(found[-1], [])
    return found


def processor_seconds(roots):
    """Processor time of processes and what descends from them, those that have ended and were waited for as well."""
    total = 0
    for process in (process for root in roots for process in family(root)):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def memory_mib(roots):
    """Memory of processes and their descendants; what several share is counted once (PSS)."""
    total = 0
    for process in (process for root in roots for process in family(root)):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def resident_mib(process):
    """Resident memory of one process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files(process):
    return len(os.listdir(f"/proc/{process}/fd"))


def agents(server, plan, each=lambda: None, every=2.0):
    """Runs the agents of a plan against a server; yields what came of them. `each` is called as they go."""
    keys = PACKAGES / "keys.json"
    keys.write_text(json.dumps(server.keys))
    plan = {"url": server.url, "keys": str(keys), "assets": getattr(server, "assets", {}), **plan}
    process = subprocess.Popen([NODE, HERE / "agents.mjs", json.dumps(plan)], stdout=subprocess.PIPE, text=True)
    first = process.stdout.readline()
    if not first:
        raise SystemExit("the agents could not begin")
    told = []
    reader = threading.Thread(target=lambda: told.append(process.stdout.readline()))
    reader.start()
    each()
    while reader.is_alive():
        reader.join(every)
        if process.poll() is None:
            each()
    process.wait()
    if not told[0]:
        raise SystemExit("the agents gave up")
    summary = json.loads(told[0])
    server.assets = {**getattr(server, "assets", {}), **summary.pop("assets")}
    return summary
