"""The mesh work of a conversion as one would do it in Python, timed step by step, and orfeas's figures beside it.

    python benches/meshes/compare.py --samples 128,256,512 --orfeas orfeas.json --json out/compare.json

Each step is a process of its own (`steps.py`), so that its peak of memory is its own: interpreter, packages and what it is given
are in it; loading those takes none of its time. Of --runs runs the one with the median of processor time is taken, which a busy machine
disturbs less than seconds. The file for --orfeas is what `orfeas bench --meshes 128,256,512 --json` prints.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# What steps.STEPS holds, without loading numpy: a child's peak of memory counts its parent's at its start.
FORMATS = ("glb", "obj", "stl", "ply", "3mf")
WITH = {
    "sample": "numpy", "extract": "scikit-image", "clean": "pymeshlab", "clean-trimesh": "trimesh", "simplify": "pymeshlab",
    "simplify-fast": "fast-simplification", "atlas": "xatlas", "bake": "numpy, scipy",
    **{f"{format}-whole": "trimesh" for format in FORMATS}, **{format: "trimesh" for format in FORMATS},
}
# Other ways of a step stand beside the same figures of orfeas.
SAME_AS = {"clean-trimesh": "clean", "simplify-fast": "simplify"}


def measured(step: str, samples: int, args: argparse.Namespace) -> dict:
    """The median run of a step."""
    threads = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, HERE / "steps.py", step, "--samples", str(samples), "--folder", args.folder]
    runs = []
    for _ in range(args.runs):
        told = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
        if told.returncode != 0:
            return {"error": told.stderr.strip().splitlines()[-1] if told.stderr.strip() else f"exit status {told.returncode}"}
        runs.append(json.loads(told.stdout.splitlines()[-1]))
    runs.sort(key=lambda run: run["cpuSeconds"])
    return runs[len(runs) // 2]


def cells(figures: dict | None) -> list[str]:
    """Seconds, of them on a processor, MiB, triangles (or bytes), closed."""
    if not figures:
        return [""] * 5
    if "error" in figures:
        return ["failed", "", "", "", ""]
    amount = f"{figures['bytes'] / 1e6:.1f} MB" if "bytes" in figures else f"{figures['triangles']:,}" if "triangles" in figures else ""
    closed = {True: "yes", False: "no", None: ""}[figures.get("closed")]
    cpu = f"{figures['cpuSeconds']:.3f}" if "cpuSeconds" in figures else ""
    mib = f"{figures['peakMiB']:.0f}" if "peakMiB" in figures else ""
    return [f"{figures['seconds']:.3f}", cpu, mib, amount, closed]


def faster(python: dict, orfeas: dict) -> str:
    """By processor time where both tell it, else by seconds."""
    for time in ("cpuSeconds", "seconds"):
        if python.get(time) and orfeas.get(time):
            return f"{python[time] / orfeas[time]:.1f}×"
    return ""


def print_table(python: dict[str, dict], orfeas: dict[str, dict]):
    heads = ["seconds", "CPU s", "peak MiB", "triangles, bytes", "closed"]
    for samples, steps in python.items():
        ours = orfeas.get(samples, {})
        print(f"\n{samples} samples along an axis\n")
        columns = ["step", "Python with", *heads, *([f"orfeas: {heads[0]}", *heads[1:], "faster"] if ours else [])]
        print(f"| {' | '.join(columns)} |\n|{' --- |' * 2}{' ---: |' * (len(columns) - 2)}")
        for step, figures in steps.items():
            row = [step.removesuffix("-trimesh").removesuffix("-fast"), WITH[step], *cells(figures)]
            if ours:
                mine = ours.get(SAME_AS.get(step, step))
                row += [*cells(mine), faster(figures, mine or {})]
            print(f"| {' | '.join(row)} |")


# Steps of orfeas's bench by the names that they have here.
OURS = {
    "sample": ("sample",), "extract": ("extract",), "clean": ("clean",), "simplify": ("simplify",), "atlas": ("atlas",),
    "bake": ("texels", "paint"), "glb": ("glb baked",), **{f"{format}-whole": (format,) for format in FORMATS},
}


def of_orfeas(rows: list[dict]) -> dict[str, dict]:
    """The figures of orfeas in the form of Python's. Its peak of memory is one for all steps of a resolution."""
    figures = {}
    for row in rows:
        of = lambda kind, names: sum(row[kind][name] for name in names) / 1000
        figures[str(row["resolution"])] = {
            step: {"seconds": of("ms", names), "cpuSeconds": of("cpuMs", names)} for step, names in OURS.items()
        }
    return figures


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", default="128,256,512")
    parser.add_argument("--steps", default=",".join(WITH), help="those left out must have left their files in --folder")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="for packages that can use several")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "out/compare", help="for what a step leaves to the next")
    parser.add_argument("--orfeas", type=pathlib.Path, help="orfeas's figures")
    parser.add_argument("--python", type=pathlib.Path, help="figures of an earlier run, instead of measuring")
    parser.add_argument("--json", type=pathlib.Path, help="where to write Python's figures")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    figures: dict[str, dict] = json.loads(args.python.read_text()) if args.python else {}
    for samples in [] if args.python else args.samples.split(","):
        folder, args.folder = args.folder, args.folder / samples
        args.folder.mkdir(parents=True, exist_ok=True)
        figures[samples] = {}
        for step in args.steps.split(","):
            figures[samples][step] = measured(step, int(samples), args)
            print(f"{samples} {step}: {figures[samples][step]}", file=sys.stderr, flush=True)
        args.folder = folder
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    print_table(figures, of_orfeas(json.loads(args.orfeas.read_text())) if args.orfeas else {})
    return int(any("error" in step for steps in figures.values() for step in steps.values()))


if __name__ == "__main__":
    sys.exit(main())
