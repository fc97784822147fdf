#!/usr/bin/env python3
"""Agents at orfeas, at GraphQL Yoga with graphile-worker and at Strawberry with procrastinate, over one Postgres; or the
statements of the queue beside graphile-worker's.

    run.py load [--agents 50,200,1000] [--rate 20] [--seconds 30]
    run.py mini [--resolution 64]
    run.py queue [--rows 1000,100000,5000000]
    run.py notify
    run.py statements

README.md says what is the same and what differs.
"""

import argparse
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import stand
import statements as logged

POLL = 0.5
# Of the requests that a key may send in a minute, an agent that keeps to it sends so many.
KEEPS_TO = 0.97


def node(program, *files):
    """The command that runs a program of this folder. Node looks for packages beside it, so it goes there, with what it reads."""
    for file in (program, "pool.mjs", *files):
        shutil.copy(stand.HERE / file, stand.PACKAGES)
    return [stand.NODE, stand.PACKAGES / program]


def peer(name, postgres, folder, runs):
    """A peer with a database of its own."""
    postgres.create(name)
    environment = {"DATABASE_URL": postgres.url(name), "NODE_PATH": str(stand.PACKAGES / "node_modules")}
    if name == "yoga":
        command = node("serve_yoga.mjs", "peers.sql")
    else:
        command = [sys.executable, stand.HERE / "serve_strawberry.py"]
    subprocess.run([*command, "setup"], env={**stand.os.environ, **environment}, check=True)
    processes, url = [], None
    for role in runs:
        process, told = stand.start([*command, role], environment, folder / f"{name}.log", lambda line: line)
        processes.append(process)
        url = told if role == "api" else url
    return stand.Server(name, url, processes, name)


def give_keys(server, postgres, count):
    if server.name == "orfeas":
        return stand.make_keys(server, count, requestsPerMinute=1_000_000, conversionsAtOnce=1_000_000, conversionsPerDay=1_000_000)
    server.keys = [{"keyId": f"key_{number}", "secret": secrets.token_urlsafe(32)} for number in range(count)]
    with postgres.connect(server.database) as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO api_key VALUES (%(keyId)s, %(secret)s)", server.keys)


def measure(server, postgres, plan):
    """One run: what the agents met, and what it cost whom."""
    mine = [process.pid for process in server.processes]
    database = [postgres.process.pid]
    looks = []

    def look():
        looks.append((stand.processor_seconds(mine), stand.processor_seconds(database), stand.memory_mib(mine), postgres.wal()))

    summary = stand.agents(server, plan, look, 5.0)
    look()
    begun, ended = looks[0], looks[-1]
    count = max(1, summary["answered"])
    summary.update(
        server=server.name,
        follow=plan["follow"],
        processorMs={"server": (ended[0] - begun[0]) / count * 1e3, "postgres": (ended[1] - begun[1]) / count * 1e3, "agents": summary["processorSeconds"] / count * 1e3},
        memoryMiB=[round(looks[place][2]) for place in (0, len(looks) // 2, -1)],
        walBytes=(ended[3] - begun[3]) / count,
    )
    show(summary)
    return summary


def show(row):
    number = lambda value, digits=1: "–" if value is None else f"{value:.{digits}f}"
    submit, end, spent = row["submitMs"], row["endMs"], row["processorMs"]
    refused = sum(row["refusals"].values())
    lost = f", {json.dumps(row['refusals'])}" if refused else ""
    cells = [
        row["server"] + {"events": ", events", "poll": "", "none": ""}[row["follow"]],
        row["agents"],
        number(row["perSecond"]),
        *(number(submit[name]) for name in ("p50", "p95", "p99", "max")),
        f"{number(end['mean'] and end['mean'] / 1e3, 2)}, {number(end['max'] and end['max'] / 1e3, 2)}",
        f"{row['answered']}, {row['succeeded']}{lost}",
        f"{number(spent['server'])}, {number(spent['postgres'])}, {number(spent['agents'])}",
        " ".join(map(str, row["memoryMiB"])),
        number(row["walBytes"] / 1000),
    ]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(title):
    print(f"\n{title}\n")
    print("| server | agents | per s | submit p50 ms | p95 | p99 | max | to the end, mean, max s | answered, succeeded | processor ms each: server, Postgres, agents | memory MiB | WAL kB |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)


def serve(name, postgres, folder, works=True, **settings):
    if name == "orfeas":
        role = {} if works else {"ORFEAS_ROLE": "api", "ORFEAS_QUEUE_MAX": "10000000"}
        chosen = {"ORFEAS_MODELS_DIR": stand.models(folder, "sound"), "ORFEAS_DEFAULT_MODEL": "sound"}
        return stand.orfeas(postgres, folder, **{**chosen, **role, **settings})
    return peer(name, postgres, folder, ["api", "worker"] if works else ["api"])


def load(options, postgres, folder):
    picture = str(stand.ball(folder / "ball.png"))
    common = {"picture": picture, "poll": POLL, "seconds": options.seconds}
    rows = []
    most = max(options.agents)
    if "convert" in options.parts:
        head(f"Conversions at {options.rate:g} a second")
        for name in options.servers:
            server = serve(name, postgres, folder)
            give_keys(server, postgres, most)
            try:
                for count in options.agents:
                    plan = {**common, "agents": count, "every": count / options.rate}
                    rows.append(measure(server, postgres, {**plan, "follow": "poll"}))
                    if name == "orfeas":
                        rows.append(measure(server, postgres, {**plan, "follow": "events"}))
            finally:
                server.stop()
    if "quota" in options.parts:
        head(f"50 agents that use {KEEPS_TO:.0%} of the default quota of 100 requests a minute")
        server = serve("orfeas", postgres, folder)
        stand.make_keys(server, 50)
        try:
            spacing = 60 / 100 / KEEPS_TO
            rows.append(measure(server, postgres, {**common, "agents": 50, "spacing": spacing, "follow": "poll"}))
        finally:
            server.stop()
    if "submit" in options.parts:
        head("Submissions alone, as fast as they are answered; nobody converts")
        for name in options.servers:
            server = serve(name, postgres, folder, works=False)
            give_keys(server, postgres, most)
            try:
                for count in options.agents:
                    plan = {**common, "agents": count, "every": 0, "seconds": min(options.seconds, 10), "follow": "none"}
                    rows.append(measure(server, postgres, plan))
            finally:
                server.stop()
    return rows


def mini(options, postgres, folder):
    settings = {"ORFEAS_MODELS_DIR": stand.models(folder, "orfeas-mini"), "ORFEAS_DEFAULT_MODEL": "orfeas-mini"}
    server = serve("orfeas", postgres, folder, **settings)
    stand.make_keys(server, 50)
    plan = {
        "picture": str(stand.ROOT / "examples" / "pictures" / "house.png"),
        "agents": 50,
        "follow": "events",
        "options": {"resolution": options.resolution},
    }
    rows = []
    try:
        head(f"50 agents, orfeas-mini at {options.resolution}: {options.rate:g} a second; then each its next as soon as the last has ended")
        rows.append(measure(server, postgres, {**plan, "every": 50 / options.rate, "seconds": options.seconds}))
        rows.append(measure(server, postgres, {**plan, "every": 0, "seconds": options.seconds}))
    finally:
        server.stop()
    return rows


def queue(options, postgres, folder):
    rows = []
    sizes = ",".join(map(str, options.rows))
    each = ["--callers", "1,16", "--conversions", str(options.conversions)]
    for name, command in (
        ("orfeas", [stand.PROGRAM, "bench", "--queue", sizes, *each, "--json"]),
        ("graphile", [*node("queue_graphile.mjs"), sizes, "1,16", str(options.conversions)]),
    ):
        if name not in options.servers:
            continue
        postgres.create(name)
        environment = {"DATABASE_URL": postgres.url(name), "ORFEAS_DATA_DIR": str(folder / "data"), "ORFEAS_LOG": "warn"}
        done = subprocess.run(command, env={**stand.os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
        rows += [{"queue": name, **row} for row in json.loads(done.stdout)]
        with postgres.connect("postgres") as connection:
            size = connection.execute("SELECT pg_database_size(%s)", (name,)).fetchone()[0]
            print(f"{name}: {size / 1e9:.2f} GB", file=sys.stderr)
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    print("| rows | callers | operation | queue | per s | p50 ms | p99 ms | WAL bytes |\n|---|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: (row["rows"], row["callers"])):
        p50, p99 = ("–" if row[name] is None else f"{row[name]:.2f}" for name in ("p50Ms", "p99Ms"))
        figures = f"{row['perSecond']:.0f} | {p50} | {p99} | {row['walBytes']:.0f}"
        print(f"| {row['rows']:,} | {row['callers']} | {row['operation']} | {row['queue']} | {figures} |")
    return rows


def notify(options, postgres, folder):
    postgres.create("notify")
    command = [*node("notify.mjs"), ",".join(map(str, options.callers)), str(options.seconds)]
    environment = {"DATABASE_URL": postgres.url("notify")}
    done = subprocess.run(command, env={**stand.os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    rows = json.loads(done.stdout)
    print("| callers | operation | per s |\n|---|---|---|")
    for row in rows:
        print(f"| {row['callers']} | {row['operation']} | {row['perSecond']:.0f} |")
    return rows


def statements(options, postgres, folder):
    rows = logged.count(postgres, folder)
    logged.show(rows)
    return rows


def main():
    numbers = lambda text: [int(number) for number in text.split(",")]
    words = lambda text: text.split(",")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where Postgres and the stores lie; default: a new one, removed afterwards")
    parser.add_argument("--program", type=Path, default=stand.PROGRAM, help="the server; default: the checkout's")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parts = parser.add_subparsers(dest="what", required=True)
    one = parts.add_parser("load")
    one.add_argument("--agents", type=numbers, default=[50, 200, 1000])
    one.add_argument("--rate", type=float, default=20, help="submissions a second of all agents together")
    one.add_argument("--seconds", type=float, default=30)
    one.add_argument("--servers", type=words, default=["orfeas", "yoga", "strawberry"])
    one.add_argument("--parts", type=words, default=["convert", "quota", "submit"])
    one = parts.add_parser("mini")
    one.add_argument("--resolution", type=int, default=64)
    one.add_argument("--rate", type=float, default=1)
    one.add_argument("--seconds", type=float, default=90)
    one = parts.add_parser("queue")
    one.add_argument("--rows", type=numbers, default=[1_000, 100_000, 5_000_000])
    one.add_argument("--conversions", type=int, default=2000)
    one.add_argument("--servers", type=words, default=["orfeas", "graphile"])
    one = parts.add_parser("notify")
    one.add_argument("--callers", type=numbers, default=[1, 16, 64])
    one.add_argument("--seconds", type=float, default=4)
    parts.add_parser("statements")
    options = parser.parse_args()
    stand.ensure_packages()
    stand.PROGRAM = options.program.absolute()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="orfeas-load-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    postgres = stand.Postgres(folder / "postgres")
    try:
        rows = {"load": load, "mini": mini, "queue": queue, "notify": notify, "statements": statements}[options.what](options, postgres, folder)
    finally:
        postgres.stop()
        if not options.folder:
            shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
