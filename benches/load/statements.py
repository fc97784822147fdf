"""What one conversion asks of Postgres: its statements, counted in the log of a Postgres that logs them all."""

import collections
import re
import time

import stand

CONVERSIONS = 60
IDLE_SECONDS = 20
LOGGED = re.compile(r"LOG: +(?:execute \S+|statement): (.*)")
# So much of a statement tells it from the others.
BEGINNING = 110


def count(postgres, folder):
    """Statements a conversion and a second of an idle node, the most frequent first."""
    with postgres.connect("postgres") as connection:
        connection.execute("ALTER ROLE orfeas SET log_statement = 'all'")
    server = stand.orfeas(postgres, folder, ORFEAS_MODELS_DIR=stand.models(folder, "sound"), ORFEAS_DEFAULT_MODEL="sound")
    log = folder / "postgres" / "log"
    marks = []
    plan = {
        "picture": str(stand.ball(folder / "ball.png")),
        "agents": 4,
        "every": 0,
        "seconds": 3600,
        "conversions": CONVERSIONS,
        "follow": "events",
    }
    try:
        stand.make_keys(server, 4, requestsPerMinute=1_000_000)
        mark = lambda: marks.append((log.stat().st_size, time.monotonic()))
        summary = stand.agents(server, plan, lambda: marks or mark(), 0.1)
        mark()
        time.sleep(IDLE_SECONDS)
        mark()
    finally:
        server.stop()
    text = log.read_bytes()
    (begun, since), (ended, until), (idle_ended, _) = marks
    busy, idle = told(text[begun:ended]), told(text[ended:idle_ended])
    rows = []
    for statement, times in busy.most_common():
        a_second = idle[statement] / IDLE_SECONDS
        each = (times - a_second * (until - since)) / summary["answered"]
        rows.append({"statement": statement, "each": max(0.0, each), "idlePerSecond": a_second})
    return sorted(rows, key=lambda row: -row["each"])


def told(text):
    found = collections.Counter()
    # A statement of several lines goes on in lines that begin with a tab.
    for line in text.decode(errors="replace").replace("\n\t", " ").split("\n"):
        if match := LOGGED.search(line):
            found[" ".join(match.group(1).split())[:BEGINNING]] += 1
    return found


def show(rows):
    print("| statement | a conversion | a second, idle |\n|---|---|---|")
    for row in rows:
        if row["each"] >= 0.05:
            print(f"| `{row['statement']}` | {row['each']:.2f} | {row['idlePerSecond']:.2f} |")
    print(f"| all | {sum(row['each'] for row in rows):.1f} | {sum(row['idlePerSecond'] for row in rows):.1f} |")
