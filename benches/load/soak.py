#!/usr/bin/env python3
"""Ten thousand conversions through one node, and what it holds as they go by.

    soak.py [--conversions 10000] [--agents 16] [--every 10]

Prints the series, and judges it: after a first part in which pools and tables fill, nothing may show a trend or leave the
plateau by more than a twentieth. Exits with 1 where something does.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import stand

# The least that the setting takes. Rows leave by a sweep each minute, so a table holds one to two minutes' conversions.
RETENTION = "1m"
# Part of the series that is not judged.
FILLING = 0.4
TOLERANCE = 0.05
# Rows of a table below which bytes a row say nothing: a page holds eight kilobytes.
ROWS_MIN = 500
# What is kept for longer than the bench runs: events of the audit log for more than a year, nonces until no signature
# with them is fresh any more. Of these, bytes a row are judged.
KEPT = ("audit_event", "audit_seal", "audit_pending", "nonce", "usage_day")
TABLES = "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public' ORDER BY relname"


class Watch:
    """Looks at a node and its database every so often."""

    def __init__(self, server, postgres):
        self.process, self.postgres, self.store = server.processes[0].pid, postgres, server.store
        self.connection = postgres.connect(server.database)
        self.tables = [name for (name,) in self.connection.execute(TABLES).fetchall()]
        self.series, self.began = [], time.monotonic()

    def look(self):
        one = lambda sql, *values: self.connection.execute(sql, values).fetchone()[0]
        tables = {}
        for name in self.tables:
            dead = one("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = %s", name)
            tables[name] = {"rows": one(f"SELECT count(*) FROM {name}"), "dead": dead, "bytes": one("SELECT pg_total_relation_size(%s)", name)}
        row = {
            "seconds": time.monotonic() - self.began,
            "resident": stand.resident_mib(self.process),
            "memory": stand.memory_mib([self.process]),
            "files": stand.open_files(self.process),
            "processes": len(stand.family(self.process)),
            "connections": one("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"),
            # Folders are erased while it walks through them, which os.walk passes over.
            "stored": sum(len(files) for _, _, files in os.walk(self.store)),
            "tables": tables,
        }
        self.series.append(row)
        busy = ", ".join(f"{name} {tables[name]['bytes'] / 2**20:.1f} MiB of {tables[name]['rows']}" for name in ("conversion", "conversion_event", "asset"))
        print(
            f"{row['seconds']:5.0f} s: {row['resident']:.0f} MiB, family {row['memory']:.0f}, {row['files']} files, {row['processes']} processes,"
            f" {row['connections']} connections, {row['stored']} stored; {busy}",
            flush=True,
        )


def slope(points):
    """The line through points by least squares."""
    count = len(points)
    mean_x, mean_y = (sum(axis) / count for axis in zip(*points))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def judge(name, points, steps=0.0):
    """Whether values stay within a twentieth of their plateau and show no trend. `steps` more is allowed of small counts."""
    values = sorted(value for _, value in points)
    plateau = values[len(values) // 2]
    allowed = max(TOLERANCE * plateau, steps)
    trend = slope(points) * (points[-1][0] - points[0][0])
    apart = max(plateau - values[0], values[-1] - plateau)
    return {"what": name, "plateau": plateau, "trend": trend, "apart": apart, "well": abs(trend) <= allowed and apart <= allowed}


def judgements(series):
    # The last look may come when the agents have hung up.
    rows = series[int(len(series) * FILLING) : -1]
    of = lambda value: [(row["seconds"], value(row)) for row in rows]
    yield judge("resident MiB", of(lambda row: row["resident"]))
    yield judge("MiB with its processes", of(lambda row: row["memory"]))
    # A connection or a file that comes and goes between two looks is no trend.
    yield judge("open files", of(lambda row: row["files"]), steps=6)
    # The pool closes each after half an hour, and makes another when it is short of one.
    yield judge("connections to Postgres", of(lambda row: row["connections"]), steps=3)
    yield judge("processes", of(lambda row: row["processes"]), steps=1)
    for name in rows[0]["tables"]:
        table = lambda row: row["tables"][name]
        if name in KEPT:
            if min(table(row)["rows"] for row in rows) >= ROWS_MIN:
                yield judge(f"{name}, bytes a row", of(lambda row: table(row)["bytes"] / table(row)["rows"]))
        elif max(table(row)["rows"] for row in rows) >= ROWS_MIN:
            yield judge(f"{name}, MiB", of(lambda row: table(row)["bytes"] / 2**20))
        else:
            # Some pages: a table of a few rows that change often.
            yield judge(f"{name}, MiB", of(lambda row: table(row)["bytes"] / 2**20), steps=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=stand.PROGRAM, help="the server; default: the checkout's")
    parser.add_argument("--conversions", type=int, default=10_000)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--rate", type=float, default=0, help="conversions a second; default: each agent's next when the last has ended")
    parser.add_argument("--every", type=float, default=10, help="seconds between two looks")
    parser.add_argument("--folder", type=Path, help="where Postgres and the store lie; default: a new one, removed afterwards")
    parser.add_argument("--json", type=Path, help="a file for the series")
    options = parser.parse_args()
    stand.ensure_packages(npm=False)
    stand.PROGRAM = options.program.absolute()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="orfeas-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    postgres = stand.Postgres(folder / "postgres")
    try:
        settings = {"ORFEAS_MODELS_DIR": stand.models(folder, "sound"), "ORFEAS_DEFAULT_MODEL": "sound", "ORFEAS_RETENTION": RETENTION}
        server = stand.orfeas(postgres, folder, **settings)
        try:
            stand.make_keys(server, options.agents, requestsPerMinute=1_000_000)
            watch = Watch(server, postgres)
            plan = {
                "picture": str(stand.ball(folder / "ball.png")),
                "agents": options.agents,
                "every": options.agents / options.rate if options.rate else 0,
                "seconds": 86_400,
                "conversions": options.conversions,
                "follow": "events",
            }
            summary = stand.agents(server, plan, watch.look, options.every)
        finally:
            server.stop()
    finally:
        postgres.stop()
        if not options.folder:
            shutil.rmtree(folder)
    verdicts = list(judgements(watch.series))
    print(json.dumps(summary))
    print("\n| | plateau | trend over the judged part | farthest from the plateau | |\n|---|---|---|---|---|")
    for verdict in verdicts:
        figures = " | ".join(f"{verdict[name]:.1f}" for name in ("plateau", "trend", "apart"))
        print(f"| {verdict['what']} | {figures} | {'' if verdict['well'] else 'NOT WELL'} |")
    if options.json:
        options.json.write_text(json.dumps({"summary": summary, "series": watch.series, "verdicts": verdicts}, indent=1))
    is_well = all(verdict["well"] for verdict in verdicts) and summary["succeeded"] == summary["submitted"]
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
