"""Measures the meshes that `orfeas convert` wrote for a set of pictures, beside two baselines: table, JSON, picture sheets.

    orfeas convert SET/pictures/*.png --formats ply --directory MESHES
    python measure.py --set SET --meshes mini=MESHES --out DIR
    python measure.py --pictures DIR --meshes mini=MESHES --out DIR     a sheet of pictures whose true shapes nobody knows

`--meshes` may be given several times; sheets show the last. A mesh has its picture's name; one that is missing counts as a miss.
"""

import argparse
import json
import multiprocessing
import pathlib

import numpy as np
from PIL import Image

import draw
import metrics
import ply

BASELINES = ("ellipsoid", "extrusion")
MEASURES = ("iou", "chamfer", "f05", "f10", "silhouette", "colour")
SHOWN, WORST = 24, 8


def true_view(verts, azimuth):
    """Vertices turned about +Y so that a camera at `azimuth` (radians) comes to +Z."""
    c, s = np.cos(azimuth), np.sin(azimuth)
    return np.stack([verts[:, 0] * c - verts[:, 2] * s, verts[:, 1], verts[:, 0] * s + verts[:, 2] * c], 1)


def read_mesh(path):
    """The mesh of a file, or None where there is none."""
    return metrics.Mesh(*ply.read(path)) if path.exists() else None


def measure(task):
    """One row: the view, and each model's and baseline's measures."""
    folder, view, folders = task
    folder = pathlib.Path(folder)
    rgba = np.asarray(Image.open(folder / view["picture"]).convert("RGBA"), np.float32) / 255
    mask = rgba[..., 3] > 0.5
    # The baselines' grid is as fine as the models' training pictures.
    step = max(1, len(mask) // 192)
    mean = rgba[mask][:, :3].mean(0) if mask.any() else np.full(3, 0.5)
    verts, colours, faces = ply.read(folder / view["mesh"])
    truth = metrics.Mesh(true_view(verts, np.radians(view["azimuth"])), colours, faces)
    coarse = mask[::step, ::step]
    stem = pathlib.Path(view["picture"]).stem
    meshes = [*(read_mesh(pathlib.Path(of) / f"{stem}.ply") for of in folders.values()),
              metrics.ellipsoid(coarse, mean), metrics.extrusion(coarse, mean)]
    scores = metrics.score_all(truth, meshes, np.radians(view["elevation"]), np.tan(np.radians(view["fov"]) / 2))
    return {"view": stem, "name": view["name"], "category": view["category"], **dict(zip([*folders, *BASELINES], scores))}


def table(rows, names):
    """Markdown: means of every measure by model, then IoU by category."""
    lines = ["| model | IoU | Chamfer | F@.05 | F@.1 | silhouette IoU | colour error |", "|---" * (len(MEASURES) + 1) + "|"]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(f"{np.mean([r[name][m] for r in rows]):.4f}" for m in MEASURES) + " |")
    lines += ["", "IoU by category:", "", "| category | views | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for category in sorted({r["category"] for r in rows}):
        some = [r for r in rows if r["category"] == category]
        lines.append(f"| {category} | {len(some)} | " + " | ".join(f"{np.mean([r[n]['iou'] for r in some]):.3f}" for n in names) + " |")
    return "\n".join(lines)


def on_white(path):
    """The picture, cut to a square about its middle where it isn't one: uint8 [192, 192, 3]."""
    picture = Image.open(path).convert("RGBA")
    side = max(picture.size)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(square.convert("RGB").resize((192, 192), Image.LANCZOS))


def sheet_of(path, pictures, meshes, count):
    """A sheet of pictures and their meshes; those without a mesh are left out."""
    pairs = [(on_white(picture), read_mesh(mesh)) for picture, mesh in zip(pictures, meshes)]
    pairs = [pair for pair in pairs if pair[1] is not None]
    draw.sheet(path, [picture for picture, _ in pairs], [[mesh for _, mesh in pairs]], count)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set")
    parser.add_argument("--pictures")
    parser.add_argument("--meshes", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--out", required=True)
    parser.add_argument("--shown-prefix", default="", help="sheets only of models from packs whose names begin so; several with commas")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    args = parser.parse_args()
    folders = dict(entry.split("=", 1) for entry in args.meshes)
    last = pathlib.Path(list(folders.values())[-1])
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    if args.pictures:
        pictures = sorted(pathlib.Path(args.pictures).glob("*.png"))
        sheet_of(out / "pictures.png", pictures, [last / f"{p.stem}.ply" for p in pictures], 1)
    if not args.set:
        return
    described = json.loads((pathlib.Path(args.set) / "set.json").read_text())
    with multiprocessing.Pool(args.workers) as pool:
        rows = pool.map(measure, [(args.set, view, folders) for view in described["views"]], 4)
    text = table(rows, [*folders, *BASELINES])
    name = described["name"]
    (out / f"{name}.md").write_text(text + "\n")
    (out / f"{name}.json").write_text(json.dumps(rows))
    # One view a model at most: the first, so that a sheet shows different things.
    shown = [i for i, view in enumerate(described["views"])
             if view["source"].startswith(tuple(args.shown_prefix.split(","))) and view["picture"].endswith("-0.png")]
    chosen = np.random.default_rng(11).permutation(shown)[:SHOWN]
    worst = sorted(shown, key=lambda i: rows[i][list(folders)[-1]]["iou"])[:WORST]
    for label, some in (("sheet", chosen), ("worst", worst)):
        views = [described["views"][i] for i in some]
        sheet_of(out / f"{name}-{label}.png", [pathlib.Path(args.set) / v["picture"] for v in views],
                 [last / f"{pathlib.Path(v['picture']).stem}.ply" for v in views], 2)
    print(text)


if __name__ == "__main__":
    main()
