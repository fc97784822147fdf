#!/usr/bin/env python3
"""Writes what is said elsewhere already into the documents that people read: docs/REFERENCE.md from schema.graphql, and the
table of settings in docs/OPERATIONS.md from src/config.rs.

    reference.py            write them
    reference.py --check    say what differs, and what has no description; exit with 1 then

A type, field, argument, input field or enum value without a description is an error either way.
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "schema.graphql"
REFERENCE = ROOT / "docs" / "REFERENCE.md"
CONFIG = ROOT / "src" / "config.rs"
OPERATIONS = ROOT / "docs" / "OPERATIONS.md"
TABLE = re.compile(r"(<!-- settings -->\n).*?(<!-- end of settings -->)", re.S)

HEAD = """# GraphQL reference

Made from [schema.graphql](../schema.graphql) by `.tools/reference.py`; a test fails when the two differ. How to call it is told
for [frontends](FRONTENDS.md) and [agents](AGENTS.md); transports and limits are in [GRAPHQL.md](GRAPHQL.md).

A type with `!` is never null. Whoever may not use a field gets `FORBIDDEN`.
"""

TOKEN = re.compile(r'"""(?P<block>.*?)"""|"(?P<text>(?:\\.|[^"\\])*)"|(?P<name>[A-Za-z_]\w*)|(?P<number>-?\d[\d.eE+-]*)|(?P<mark>[!():=@\[\]{}|&])|(?P<skip>[\s,]+|\#[^\n]*)', re.S)

ROOTS = {"Query": "Queries", "Mutation": "Mutations", "Subscription": "Subscriptions"}
KINDS = {"type": "Objects", "input": "Inputs", "enum": "Enums", "interface": "Interfaces", "union": "Unions", "scalar": "Scalars"}
# GraphQL's own.
BUILT_IN = {"Int", "Float", "String", "Boolean", "ID"}


@dataclass
class Item:
    """Something with a name: a type, or a part of one."""

    name: str
    about: str | None
    kind: str = ""
    type: str = ""
    default: str | None = None
    parts: list["Item"] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Reader:
    """Reads SDL, as far as servers export it."""

    def __init__(self, text):
        self.tokens = []
        place = 0
        while place < len(text):
            match = TOKEN.match(text, place)
            if match is None:
                raise SystemExit(f"reference: schema.graphql can't be read at: {text[place:place + 40]!r}")
            if match.lastgroup != "skip":
                self.tokens.append((match.lastgroup, match[match.lastgroup]))
            place = match.end()
        self.tokens.append(("end", ""))

    def peek(self):
        return self.tokens[0]

    def take(self, text=None):
        kind, value = self.tokens.pop(0)
        if text is not None and value != text:
            raise SystemExit(f"reference: schema.graphql has {value!r} where {text!r} should be")
        return value

    def skips(self, text):
        if self.peek()[1] != text or self.peek()[0] in ("block", "text"):
            return False
        self.take()
        return True

    def about(self):
        kind, value = self.peek()
        if kind not in ("block", "text"):
            return None
        self.take()
        lines = [line.strip() for line in value.strip().splitlines()]
        # Paragraphs stay, lines don't.
        return "\n".join(" ".join(paragraph.split("\n")) for paragraph in "\n".join(lines).split("\n\n")) or None

    def type(self):
        if self.skips("["):
            inner = self.type()
            self.take("]")
            text = f"[{inner}]"
        else:
            text = self.take()
        return text + "!" if self.skips("!") else text

    def value(self):
        if self.skips("["):
            items = []
            while not self.skips("]"):
                items.append(self.value())
            return f"[{', '.join(items)}]"
        if self.skips("{"):
            items = []
            while not self.skips("}"):
                name = self.take()
                self.take(":")
                items.append(f"{name}: {self.value()}")
            return "{" + ", ".join(items) + "}"
        kind, value = self.tokens.pop(0)
        return f'"{value}"' if kind in ("text", "block") else value

    def directives(self, item):
        while self.skips("@"):
            name = self.take()
            arguments = {}
            if self.skips("("):
                while not self.skips(")"):
                    key = self.take()
                    self.take(":")
                    arguments[key] = self.value()
            if name == "deprecated":
                item.notes.append(f"Deprecated: {arguments.get('reason', 'do not use').strip(chr(34))}")
            elif name == "oneOf":
                item.notes.append("Exactly one of its fields must be given.")

    def parts(self, closing):
        found = []
        while not self.skips(closing):
            about = self.about()
            part = Item(self.take(), about)
            if self.skips("("):
                part.parts = self.parts(")")
            if self.skips(":"):
                part.type = self.type()
            if self.skips("="):
                part.default = self.value()
            self.directives(part)
            found.append(part)
        return found

    def types(self):
        found = []
        while self.peek()[0] != "end":
            about = self.about()
            kind = self.take()
            if kind == "schema":
                self.take("{")
                self.parts("}")
                continue
            if kind == "directive":
                self.take("@")
                self.take()
                if self.skips("("):
                    self.parts(")")
                self.skips("repeatable")
                self.take("on")
                self.skips("|")
                self.take()
                while self.skips("|"):
                    self.take()
                continue
            item = Item(self.take(), about, kind=kind)
            if self.skips("implements"):
                self.skips("&")
                item.notes.append(f"Implements `{self.take()}`.")
                while self.skips("&"):
                    item.notes.append(f"Implements `{self.take()}`.")
            self.directives(item)
            if self.skips("="):
                self.skips("|")
                item.parts.append(Item(self.take(), "A member."))
                while self.skips("|"):
                    item.parts.append(Item(self.take(), "A member."))
            if self.skips("{"):
                item.parts = self.parts("}")
            found.append(item)
        return found


def complete(types):
    """The library that makes connections gives them no description, and no way to."""
    for item in types:
        if item.name.endswith("Connection") and item.about is None:
            listed = next((part.type for part in item.parts if part.name == "nodes"), "")
            item.about = f"One page of a list: `{listed.strip('[]!')}`."


def undescribed(types):
    found = []
    for item in types:
        if item.about is None:
            found.append(item.name)
        for part in item.parts:
            if part.about is None:
                found.append(f"{item.name}.{part.name}")
            found += [f"{item.name}.{part.name}({argument.name})" for argument in part.parts if argument.about is None]
    return found


def linked(text, names):
    name = text.strip("[]!")
    shown = f"`{text}`"
    return f"[{shown}](#{names[name]})" if name in names else shown


def anchors(titles):
    """Where each heading is found, in their order: who comes second to a name gets a number."""
    seen = {}
    for title in titles:
        slug = title.lower()
        count = seen[slug] = seen.get(slug, -1) + 1
        yield title, f"{slug}-{count}" if count else slug


def cell(text):
    return " ".join((text or "").split()).replace("|", "\\|")


def told(part):
    words = [cell(part.about)]
    if part.default is not None:
        words.append(f"Default: `{part.default}`.")
    words += [cell(note) for note in part.notes]
    return " ".join(words)


def operation(part, names):
    lines = [f"### {part.name}", "", told(part), "", f"Gives {linked(part.type, names)}."]
    if part.parts:
        lines += ["", "| argument | type | |", "|---|---|---|"]
        lines += [f"| `{one.name}` | {linked(one.type, names)} | {told(one)} |" for one in part.parts]
    return lines


def described(item, names):
    lines = [f"### {item.name}", "", item.about or "", *item.notes]
    if item.kind in ("enum", "union"):
        lines += ["", "| value | |", "|---|---|"]
        lines += [f"| `{part.name}` | {told(part)} |" for part in item.parts]
    elif item.parts:
        lines += ["", "| field | type | |", "|---|---|---|"]
        for part in item.parts:
            arguments = ", ".join(f"{one.name}: {one.type}" for one in part.parts)
            name = f"{part.name}({arguments})" if arguments else part.name
            lines.append(f"| `{name}` | {linked(part.type, names)} | {told(part)} |")
    return lines


def sort(items):
    return sorted(items, key=lambda one: one.name.lower())


def reference(types):
    own = {item.name for item in types} - set(ROOTS) - BUILT_IN
    by_name = {item.name: item for item in types}
    titles = []
    for name, title in ROOTS.items():
        titles += [title, *(part.name for part in sort(by_name[name].parts))] if name in by_name else []
    for kind, title in KINDS.items():
        of_kind = [item.name for item in sort(item for item in types if item.kind == kind and item.name in own)]
        titles += [title, *of_kind] if of_kind else []
    # A type's heading comes after the operation of the same name.
    names = {title: place for title, place in anchors(titles) if title in own}
    lines = [HEAD]
    sections = [title for name, title in ROOTS.items() if name in by_name]
    sections += [title for kind, title in KINDS.items() if any(item.kind == kind and item.name in names for item in types)]
    lines += [" · ".join(f"[{title}](#{title.lower()})" for title in sections), ""]
    for name, title in ROOTS.items():
        if name not in by_name:
            continue
        lines += [f"## {title}", "", by_name[name].about or "", ""]
        for part in sort(by_name[name].parts):
            lines += [*operation(part, names), ""]
    for kind, title in KINDS.items():
        of_kind = sort(item for item in types if item.kind == kind and item.name in names)
        if of_kind:
            lines += [f"## {title}", ""]
        for item in of_kind:
            lines += [*described(item, names), ""]
    return "\n".join(lines).rstrip() + "\n"


def default(expression):
    """A default as `orfeas.toml` would hold it, from its Rust expression. A test holds these against the real ones."""
    if expression == "None":
        return "unset"
    if address := re.fullmatch(r"SocketAddr::from\(\(\[([\d, ]+)\], (\d+)\)\)", expression):
        return address[1].replace(", ", ".") + ":" + address[2]
    if text := re.search(r'"([^"]*)"', expression):
        return text[1]
    if shifted := re.fullmatch(r"(\d+) << (\d+)", expression):
        return str(int(shifted[1]) << int(shifted[2]))
    if variant := re.fullmatch(r"\w+::(\w+)", expression):
        return variant[1].lower()
    return expression.replace("_", "")


def settings():
    """The table of settings, in the order of the source."""
    source = CONFIG.read_text(encoding="utf-8")
    fields = re.search(r"pub struct Settings \{\n(.*?)\n\}", source, re.S)[1]
    defaults = re.search(r"impl Default for Settings \{.*?Self \{\n(.*?)\n        \}", source, re.S)[1]
    values = dict(re.findall(r"^            (\w+): (.*?),$", defaults, re.M | re.S))
    rows = ["| setting | default | |", "|---|---|---|"]
    about = []
    for line in fields.splitlines():
        line = line.strip()
        if line.startswith("///"):
            about.append(line.removeprefix("///").strip())
        elif name := re.fullmatch(r"pub (\w+): .*,", line):
            value = default(" ".join(values[name[1]].split()))
            rows.append(f"| `{name[1].upper()}` | {'unset' if value == 'unset' else f'`{value}`'} | {cell(' '.join(about))} |")
            about = []
    return "\n".join(rows) + "\n"


def main(arguments):
    types = Reader(SCHEMA.read_text(encoding="utf-8")).types()
    complete(types)
    missing = undescribed(types)
    if missing:
        print("reference: no description in schema.graphql: " + ", ".join(missing), file=sys.stderr)
        return 1
    operators = OPERATIONS.read_text(encoding="utf-8")
    table = settings()
    wanted = {
        REFERENCE: reference(types),
        OPERATIONS: TABLE.sub(lambda match: match[1] + table + match[2], operators),
    }
    if arguments == ["--check"]:
        stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        if stale:
            print(f"reference: out of date: {', '.join(stale)}. Run .tools/reference.py", file=sys.stderr)
        return 1 if stale else 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
