"""Writes a set of pictures with known meshes, for `orfeas models verify --set` and `measure.py`.

    python views.py --packs DIR --out SET [--split val] [--views 4]
    python views.py --packs DIR --out SET --views 1 --count 24 --pack-prefix kaykit/,kenney/

A set is `set.json`, `pictures/*.png` (RGBA) and `meshes/*.ply` (in the model's own frame, +Y up). Each view has the camera's
azimuth, elevation and full vertical angle in degrees; the camera looks at the middle of the object from azimuth 0 on +Z, 90 on +X.
"""

import argparse
import json
import math
import pathlib

import numpy as np
from PIL import Image

import data
import ply
import render

AT_ONCE = 8


def straight(rgba):
    """RGBA of 8 bits, not premultiplied, from a premultiplied picture [4, S, S]."""
    alpha = rgba[3:]
    colour = np.where(alpha > 0, rgba[:3] / np.maximum(alpha, 1e-6), 0)
    return (np.concatenate([colour, alpha]).clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def write(bank, out, views, seed, side, name):
    """Writes the set; returns how many views it has."""
    out = pathlib.Path(out)
    for folder in ("pictures", "meshes"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    rows, seen = [], {}
    for part, p, scenes in render.clean_views(bank, views, seed, AT_ONCE):
        pictures = scenes.picture(size=side)[0].cpu().numpy()
        angles = scenes.s.cpu().numpy()
        for i, k in enumerate(part):
            record = bank.meshes.records[k]
            seen[k] = seen.get(k, -1) + 1
            mesh, picture = f"meshes/{record['id']}.ply", f"pictures/{record['id']}-{seen[k]}.png"
            if seen[k] == 0:
                ply.write(out / mesh, *bank.meshes.one(k))
            Image.fromarray(straight(pictures[i])).save(out / picture, optimize=True)
            rows.append({"picture": picture, "mesh": mesh, "azimuth": round(math.degrees(p["azimuth"][i]), 4),
                         "elevation": round(math.degrees(p["elevation"][i]), 4), "fov": round(math.degrees(2 * math.atan(angles[i])), 4),
                         "category": record["category"], "name": record["name"], "source": record["pack"], "licence": record["licence"]})
    (out / "set.json").write_text(json.dumps({"name": name, "views": rows}, indent=1) + "\n")
    return len(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--split", default="val", choices=("val", "unseen"))
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--side", type=int, default=384, help="of the pictures, in pixels")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--count", type=int, default=0, help="only so many models, drawn by the seed")
    parser.add_argument("--pack-prefix", default="", help="only models of packs whose names begin so; several with commas")
    args = parser.parse_args()
    meshes = data.read_packs(args.packs)
    keep = [i for i in data.splits(meshes)[args.split] if meshes.records[i]["pack"].startswith(tuple(args.pack_prefix.split(",")))]
    if args.count:
        keep = sorted(np.random.default_rng(args.seed).permutation(keep)[:args.count])
    # Pictures need the labels only for the soft occlusion in corners.
    bank = data.Bank(meshes.pick(keep), "cpu", side=48, views=24, size=128, samples=16)
    print(f"{write(bank, args.out, args.views, args.seed, args.side, args.split)} views of {len(keep)} models")


if __name__ == "__main__":
    main()
