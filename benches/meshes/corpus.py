"""Converts many pictures with many options and checks that every mesh opens elsewhere without repair.

    python benches/meshes/corpus.py --program target/release/orfeas --pictures examples/pictures models/orfeas-mini/validation/pictures

README.md has the run whose figures docs/MESHES.md tells.
Exits 1 if any file fails, or a picture gives no mesh or not the one asked for; files that fail are kept in the folder named by --out.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import time

import checks
import options
import reading

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
# Formats that PrusaSlicer opens; an OBJ of ours is in metres and not meant for printing, but must be as whole.
SLICED = ("stl", "3mf", "obj")
# The largest of ours that fit the bed of the slicer's own settings.
CODE_SIZE_MM_MAX = 150.0


@dataclasses.dataclass
class Checked:
    """A file and why it is not as it should be."""

    file: pathlib.Path
    format: str
    options: str
    reasons: list[str]


class Corpus:
    """Conversions so far and what was found."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.checked: list[Checked] = []
        self.conversions = self.sliced = self.triangles = 0
        # Pictures of which no mesh came, and meshes that are not what was asked for: picture, options, why.
        self.unmade: list[tuple[str, str, str]] = []
        self.broken: list[tuple[str, str, str]] = []
        self.seconds = collections.Counter()

    def run(self, pictures: list[pathlib.Path], sets: list[options.OptionSet]):
        """Each set gets a share of the pictures by its weight, in turn, so that a picture meets different sets."""
        whole, before = sum(wanted.weight for wanted in sets), 0
        for wanted in sets:
            begin, end = (self.args.conversions * at // whole for at in (before, before + wanted.weight))
            before += wanted.weight
            share = [pictures[at % len(pictures)] for at in range(begin, end)]
            # More conversions in a set than there are pictures would only repeat themselves.
            share = list(dict.fromkeys(share))
            # In a run of few conversions a light set may get none.
            if share:
                self.convert_and_check(share, wanted)
            failed = sum(bool(checked.reasons) for checked in self.checked)
            print(f"{wanted.name}: {self.conversions} conversions, {len(self.checked)} files, {failed} failed", file=sys.stderr)

    def convert_and_check(self, pictures: list[pathlib.Path], wanted: options.OptionSet):
        folder = self.args.out / wanted.name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "pictures").mkdir(parents=True)
        # Files are named after pictures, of which two may have the same name.
        links = []
        for number, picture in enumerate(pictures):
            links.append(folder / "pictures" / f"{number:03}-{picture.name}")
            links[-1].symlink_to(picture.resolve())
        with self.timed("convert"):
            results = converted(self.args.program, links, folder, wanted)
        made = {}
        for picture, result in zip(pictures, results, strict=True):
            if "error" in result:
                self.unmade.append((picture.name, wanted.name, result["error"]))
                continue
            self.conversions += 1
            self.triangles += result["triangles"]
            made[picture] = [pathlib.Path(file) for file in result["files"]]
            self.broken += [(picture.name, wanted.name, promise) for promise in broken_promises(result, wanted)]
        self.check(made, wanted, folder)

    def check(self, made: dict[pathlib.Path, list[pathlib.Path]], wanted: options.OptionSet, folder: pathlib.Path):
        found: dict[pathlib.Path, list[str]] = {file: [] for files in made.values() for file in files}
        with self.timed("validator"):
            glbs = [file for file in found if file.suffix == ".glb"]
            for file, reasons in checks.khronos(glbs, self.args.node, self.args.validator).items():
                found[file] += reasons
        for files in made.values():
            self.check_conversion(files, wanted, folder, found)
        for file, reasons in found.items():
            self.checked.append(Checked(file, reading.format_of(file), wanted.name, reasons))
            if reasons:
                print(f"FAILED {file}: {'; '.join(reasons)}", file=sys.stderr, flush=True)
            elif not self.args.keep:
                file.unlink()
        if not self.args.keep and not any(found.values()):
            shutil.rmtree(folder)

    def check_conversion(self, files: list[pathlib.Path], wanted: options.OptionSet, folder: pathlib.Path, found: dict[pathlib.Path, list[str]]):
        formats = sorted(reading.format_of(file) for file in files)
        if formats != sorted(reading.FORMATS):
            found[files[0]].append(f"formats {formats}")
        bodies: dict[pathlib.Path, reading.Body] = {}
        opened = {file: file for file in files}
        with self.timed("trimesh"):
            for file in files:
                try:
                    opened[file] = reading.unpacked(file, folder / f"{file.stem}-unpacked")
                    bodies[file] = reading.read(opened[file])
                    found[file] += checks.geometry(bodies[file], wanted)
                    found[file] += checks.package(file) if file.suffix == ".3mf" else []
                except Exception as error:  # noqa: BLE001, whatever a reader stumbles over is what we look for
                    found[file].append(f"can't be read: {type(error).__name__}: {error}")
        with self.timed("round trip"):
            # A PLY has neither texture nor quantized numbers: what the others are held against.
            reference = next((body for body in bodies.values() if body.format == "ply"), None)
            for file, body in bodies.items():
                if reference is not None and body is not reference:
                    found[file] += checks.same(body, reference, wanted)
        if not self.args.slicer:
            return
        with self.timed("slicer"):
            for file, body in bodies.items():
                if body.format in SLICED:
                    found[file] += checks.slicer_import(opened[file], self.args.slicer, len(body.triangles))
        self.slice_some(bodies, wanted, folder, found)

    def slice_some(self, bodies: dict[pathlib.Path, reading.Body], wanted: options.OptionSet, folder: pathlib.Path,
                   found: dict[pathlib.Path, list[str]]):
        """G-code for a few, spread over the corpus, STL and 3MF in turn."""
        due = self.sliced * self.args.conversions < self.conversions * self.args.gcode
        if not due or (wanted.size_mm or 0) > CODE_SIZE_MM_MAX:
            return
        format = reading.PRINT_FORMATS[self.sliced % 2]
        for file in (file for file, body in bodies.items() if body.format == format):
            with self.timed("G-code"):
                code = folder / "sliced.gcode"
                found[file] += checks.slicing(file, self.args.slicer, code)
                code.unlink(missing_ok=True)
            self.sliced += 1

    def timed(self, what: str):
        return Timed(self.seconds, what)

    def summary(self) -> dict:
        """The whole of it, as `--json` writes it."""
        formats = {}
        for format in reading.FORMATS:
            files = [checked for checked in self.checked if checked.format == format]
            failed = sum(bool(checked.reasons) for checked in files)
            formats[format] = {"files": len(files), "passed": len(files) - failed, "failed": failed}
        return {
            "conversions": self.conversions, "triangles": self.triangles, "formats": formats, "gcode": self.sliced,
            "failures": [{"file": str(checked.file), "options": checked.options, "reasons": checked.reasons}
                         for checked in self.checked if checked.reasons],
            **{kind: [{"picture": picture, "options": name, "reason": reason} for picture, name, reason in rows]
               for kind, rows in (("unmade", self.unmade), ("broken", self.broken))},
            "seconds": {what: round(seconds, 1) for what, seconds in self.seconds.items()},
        }


class Timed:
    """Adds the seconds that a step took to a counter."""

    def __init__(self, seconds: collections.Counter, what: str):
        self.seconds, self.what = seconds, what

    def __enter__(self):
        self.start = time.monotonic()

    def __exit__(self, *_):
        self.seconds[self.what] += time.monotonic() - self.start


def converted(program: pathlib.Path, pictures: list[pathlib.Path], folder: pathlib.Path, wanted: options.OptionSet) -> list[dict]:
    """One call for all, since it loads the model; a row for each picture, in order."""
    command = [program, "convert", *pictures, "--directory", folder, "--formats", ",".join(reading.FORMATS), "--json", *wanted.arguments]
    told = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(told.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"{' '.join(map(str, command))}: {told.returncode} {told.stderr[-1000:]}") from None


def broken_promises(result: dict, wanted: options.OptionSet) -> list[str]:
    """What the program tells of a mesh, and what was asked for. Too many triangles are in order if a warning says so."""
    broken = [] if result["watertight"] else ["the program itself calls it open"]
    too_many = wanted.triangles is not None and result["triangles"] > wanted.triangles
    if too_many and not any(f"{wanted.triangles} were asked for" in warning for warning in result["warnings"]):
        broken.append(f"{result['triangles']} triangles where at most {wanted.triangles} were asked for, and no warning")
    return broken


def pictures_in(folders: list[pathlib.Path]) -> list[pathlib.Path]:
    """Those in the folders themselves, by name; of the same bytes in two folders only the first."""
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.suffix.lower() in PICTURE_ENDINGS]
    return list({file.read_bytes(): file for file in reversed(files)}.values())[::-1]


def print_table(summary: dict, missing: list[str], slicer: str):
    print(f"{summary['conversions']} conversions, {summary['triangles']:,} triangles")
    if missing:
        print(f"left out, since the program has no such option: {', '.join(missing)}")
    if not slicer:
        print("no slicer: --slicer names none that is installed")
    print(f"\n{'format':8}{'files':>8}{'passed':>8}{'failed':>8}")
    for format, row in summary["formats"].items():
        print(f"{format:8}{row['files']:>8}{row['passed']:>8}{row['failed']:>8}")
    print(f"{'G-code':8}{summary['gcode']:>8}")
    reasons = collections.Counter(reason for failure in summary["failures"] for reason in failure["reasons"])
    for reason, count in reasons.most_common():
        print(f"{count:>5} × {reason}")
    for kind in ("unmade", "broken"):
        for row in summary[kind]:
            print(f"{kind}: {row['picture']} ({row['options']}): {row['reason']}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/orfeas")
    parser.add_argument("--pictures", type=pathlib.Path, nargs="+", default=[ROOT / "examples/pictures", ROOT / "models/orfeas-mini/validation/pictures"])
    parser.add_argument("--conversions", type=int, default=216)
    parser.add_argument("--sets", type=pathlib.Path, help="a JSON file with option sets of your own")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out/meshes")
    parser.add_argument("--keep", action="store_true", help="keep the files that passed, too")
    parser.add_argument("--slicer", default="prusa-slicer")
    parser.add_argument("--gcode", type=int, default=12, help="how many to slice")
    parser.add_argument("--node", type=pathlib.Path, default=ROOT / ".deps/node/bin/node")
    parser.add_argument("--validator", type=pathlib.Path, default=ROOT / ".tools/node/validate-gltf.mjs")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the findings")
    args = parser.parse_args()
    args.program, args.out = args.program.resolve(), args.out.resolve()
    args.slicer = shutil.which(args.slicer)
    return args


def main() -> int:
    args = arguments()
    sets, missing = options.known(args.program, args.sets)
    pictures = pictures_in(args.pictures)
    if not pictures:
        raise SystemExit("no pictures")
    corpus = Corpus(args)
    corpus.run(pictures, sets)
    summary = {"pictures": len(pictures), "leftOut": missing, **corpus.summary()}
    if args.json:
        args.json.write_text(json.dumps(summary, indent=1) + "\n")
    print_table(summary, missing, args.slicer)
    return 1 if summary["failures"] or summary["unmade"] or summary["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
