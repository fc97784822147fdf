"""Measures models on rendered views of known meshes, beside two baselines; writes a table, JSON and picture sheets.

    python evaluate.py --packs DIR --model seed=first.pt --model mini=model.pt --out DIR [--split val] [--views 4]
"""

import argparse
import json
import multiprocessing
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

import metrics

BASELINES = ("ellipsoid", "extrusion")
COARSE, UNSURE = 4, 3.0   # on a CPU: grid spacing of the first pass, and the logit below which a point is clear
MEASURES = ("iou", "chamfer", "f05", "f10", "silhouette", "colour")


def true_view(verts, azimuth):
    """Vertices turned about +Y so that a camera at `azimuth` comes to +Z."""
    c, s = np.cos(azimuth), np.sin(azimuth)
    return np.stack([verts[:, 0] * c - verts[:, 2] * s, verts[:, 1], verts[:, 0] * s + verts[:, 2] * c], 1)


class Predictor:
    """A served model on a device: pictures to fields on a cube, and colours at points."""

    def __init__(self, path, device, resolution):
        self.model = torch.jit.load(str(path), map_location=device).eval()
        self.model = self.model.half() if device == "cuda" else self.model.float()
        self.device, self.resolution = device, resolution
        line = torch.linspace(-1, 1, resolution, device=device)
        self.cube = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).view(1, -1, 3)

    @torch.no_grad()
    def codes(self, images):
        return self.model.encode(images.to(self.device))

    def _logits(self, codes, points):
        return torch.cat([self.model.query(codes, part)[0].float() for part in points.split(1 << 18, 1)], 1)

    @torch.no_grad()
    def field(self, codes):
        """Logits of one picture's cube: float16 numpy [x, y, z]. A GPU asks every point, a CPU only those near the surface."""
        n = self.resolution
        if self.device == "cuda":
            field = self._logits(codes, self.cube).view(n, n, n)
        else:
            line = torch.linspace(-1, 1, n // COARSE + 1)
            coarse = self._logits(codes, torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).view(1, -1, 3)).view(1, 1, *[len(line)] * 3)
            field = F.interpolate(coarse, (n, n, n), mode="trilinear", align_corners=True)[0, 0]
            # Thin parts may pass between coarse points: what is not clearly in or out is asked too.
            unsure = (coarse > -UNSURE) & (F.max_pool3d(-coarse, 3, 1, 1) > -UNSURE)
            near = F.max_pool3d(unsure.float(), 3, 1, 1)
            near = F.interpolate(near, (n, n, n), mode="trilinear", align_corners=True).view(-1) > 0.01
            field.view(-1)[near] = self._logits(codes, self.cube[:, near])[0]
        return field.clamp(-30, 30).half().cpu().numpy()

    @torch.no_grad()
    def painted(self, codes, mesh):
        """The mesh, from cell units to the contract's cube, with colours."""
        if mesh is None:
            return None
        verts = mesh.verts * (2 / (self.resolution - 1)) - 1
        points = torch.from_numpy(verts.astype(np.float32))[None].to(self.device)
        return metrics.Mesh(verts, self.model.query(codes, points)[1][0].float().cpu().numpy(), mesh.faces)


class PlainBank:
    """Meshes for drawing only: everything outside, smooth vertices."""

    def __init__(self, meshes, device):
        empty = metrics.Mesh(np.zeros((3, 3)), np.zeros((3, 3)), np.array([[0, 1, 2]]))
        meshes = [m or empty for m in meshes]
        join = lambda parts, kind: torch.from_numpy(np.concatenate(parts)).to(kind).to(device)
        self.device = torch.device(device)
        self.verts, self.colours = join([m.verts for m in meshes], torch.float32), join([m.colours for m in meshes], torch.float32)
        self.faces = join([m.faces for m in meshes], torch.int32)
        self.groups = self.faces
        self.v_off = np.cumsum([0] + [len(m.verts) for m in meshes])
        self.f_off = np.cumsum([0] + [len(m.faces) for m in meshes])
        self.g_off, self.groups_total = self.v_off[:-1], self.v_off[-1]
        self.side, self.lo, self.step, self.reach = 2, -1.0, 1.0, 0.06
        self.grids = torch.full((len(meshes), 2, 2, 2), 127, dtype=torch.int8, device=device)


def draw(meshes, azimuth, elevation, device):
    """Pictures of meshes in the contract's frame from an azimuth (radians): uint8 [B, 192, 192, 3] on white."""
    import render
    p = render.plan(np.random.default_rng(3), lambda r, n: np.arange(n), len(meshes), render.SceneOptions(clean=True, fill=(0.86, 0.86)))
    p["azimuth"][:], p["elevation"][:], p["s"][:] = azimuth, elevation, 0.3
    light = render._lights(np.random.default_rng(5), 1, np.array([elevation]))
    light[:, 0:3], light[:, 3:6], light[:, 12:15], light[:, 15:18] = (-0.4, 0.6, 0.69), 0.75, 0.45, 0.25
    light[:, 21], light[:, 23], light[:, 25], light[:, 26] = 0.0, 1.0, 0.0, 0.4
    p["light"] = np.repeat(light, len(meshes), 0)
    rgba = render.Scenes(PlainBank(meshes, device), p).picture()[0]
    return (rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1).mul(255).byte().permute(0, 2, 3, 1).cpu().numpy()


def sheet(path, images, columns, device, count=2):
    """Rows of input beside every column's meshes from two sides, `count` rows' worth abreast."""
    from PIL import Image
    strips = [images]
    for meshes in columns:
        strips += [draw(meshes, np.radians(a), 0.25, device) for a in (-30, 75)]
    rows = np.concatenate(strips, 2)
    rows = [np.concatenate(list(rows[i:i + count]), 1) for i in range(0, len(rows) - count + 1, count)]
    Image.fromarray(np.concatenate(rows)).save(path)


def table(rows, names, categories):
    """Markdown: means of every measure by model, then IoU by category."""
    lines = ["| model | " + " | ".join(MEASURES) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(f"{np.mean([r[name][m] for r in rows]):.4f}" for m in MEASURES) + " |")
    lines += ["", "IoU by category:", "", "| category | views | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for category in categories:
        some = [r for r in rows if r["category"] == category]
        lines.append(f"| {category} | {len(some)} | " + " | ".join(f"{np.mean([r[n]['iou'] for r in some]):.3f}" for n in names) + " |")
    return "\n".join(lines)


def views_of(bank, views, seed):
    """Seeded clean pictures of every model: yields plans, images on grey and masks, 32 at a time."""
    import render
    count = len(bank.meshes.records)
    order = np.repeat(np.arange(count), views)
    for start in range(0, len(order), 32):
        part = order[start:start + 32]
        p = render.plan(np.random.default_rng([seed, start]), lambda r, n: part, len(part), render.SceneOptions(clean=True, fill=(0.86, 0.86)))
        scenes = render.Scenes(bank, p)
        p["s"] = scenes.s.cpu().numpy()
        rgba = scenes.picture()[0]
        yield p, render.on_grey(rgba), rgba[:, 3].cpu().numpy() > 0.5


def evaluate(bank, predictors, pool, views, seed=7):
    """One row a view: category, id, and each model's measures; and what the sheets need."""
    rows, kept = [], []
    for p, images, masks in views_of(bank, views, seed):
        n = len(images)
        codes = {name: predictor.codes(images) for name, predictor in predictors.items()}
        jobs = {name: pool.map_async(metrics.surface, [predictors[name].field(codes[name][i:i + 1]) for i in range(n)], 1)
                for name in predictors}
        meshes = {name: [predictors[name].painted(codes[name][i:i + 1], mesh) for i, mesh in enumerate(job.get())]
                  for name, job in jobs.items()}
        tasks = []
        for i in range(n):
            k = p["mesh"][i]
            verts, faces = bank.meshes.one(k)
            colours = bank.meshes.colours[bank.v_off[k]:bank.v_off[k + 1]]
            truth = metrics.Mesh(true_view(verts, p["azimuth"][i]), colours, faces)
            mean = images[i].cpu().numpy()[:, masks[i]].mean(1) if masks[i].any() else np.full(3, 0.5)
            others = [metrics.ellipsoid(masks[i], mean), metrics.extrusion(masks[i], mean)]
            tasks.append((truth, [*(meshes[name][i] for name in predictors), *others], p["elevation"][i], p["s"][i]))
        names = [*predictors, *BASELINES]
        for i, scores in enumerate(pool.starmap(metrics.score_all, tasks, 1)):
            record = bank.meshes.records[p["mesh"][i]]
            rows.append({"id": record["id"], "name": record["name"], "category": record["category"], **dict(zip(names, scores))})
            kept.append((images[i].mul(255).byte().permute(1, 2, 0).cpu().numpy(), {m: meshes[m][i] for m in predictors}))
    return rows, kept


def read_picture(path):
    """A picture as the server normalises it: over grey 0.5, the object filling 0.86 of a 192 px square."""
    from PIL import Image
    image = Image.open(path)
    rgba = np.asarray(image.convert("RGBA"), np.float32) / 255
    if image.mode == "RGBA":
        ys, xs = np.nonzero(rgba[..., 3] > 0.5)
    else:
        ys, xs = np.nonzero(np.abs(rgba[..., :3] - rgba[0, 0, :3]).max(2) > 0.06)
    cy, cx = (ys.min() + ys.max() + 1) / 2, (xs.min() + xs.max() + 1) / 2
    half = max(np.ptp(ys), np.ptp(xs)) / 0.86 / 2
    flat = rgba[..., :3] * rgba[..., 3:] + 0.5 * (1 - rgba[..., 3:])
    pad = int(half) + 1
    flat = np.pad(flat, ((pad, pad), (pad, pad), (0, 0)), constant_values=0.5)
    y, x, size = int(cy + pad - half), int(cx + pad - half), int(2 * half)
    crop = Image.fromarray((flat[y:y + size, x:x + size] * 255).round().astype(np.uint8)).resize((192, 192), Image.LANCZOS)
    return np.asarray(crop)


def pictures_sheet(folder, predictors, path, device):
    """The sheet of ordinary pictures, whose true shapes nobody knows."""
    images = np.stack([read_picture(f) for f in sorted(pathlib.Path(folder).glob("*.png"))])
    columns = []
    for predictor in predictors.values():
        codes = predictor.codes(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
        columns.append([predictor.painted(codes[i:i + 1], metrics.surface(predictor.field(codes[i:i + 1]))) for i in range(len(images))])
    sheet(path, images, columns, device, count=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", required=True)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--out", required=True)
    parser.add_argument("--split", default="val", choices=("val", "unseen"))
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--pack-prefix", default="", help="only models of packs whose names begin so; several with commas")
    parser.add_argument("--pictures", help="a folder of ordinary pictures to draw a sheet of")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    args = parser.parse_args()
    # Workers fork before CUDA starts.
    pool = multiprocessing.get_context("fork").Pool(args.workers)
    import data
    device = "cuda" if torch.cuda.is_available() else "cpu"
    started = time.time()
    meshes = data.read_packs(args.packs)
    prefixes = tuple(args.pack_prefix.split(","))
    keep = [i for i in data.splits(meshes)[args.split] if meshes.records[i]["pack"].startswith(prefixes)]
    meshes = meshes.pick(keep[:args.limit] if args.limit else keep)
    bank = data.Bank(meshes, device, side=96, views=48, samples=64)
    predictors = {}
    for entry in args.model:
        name, path = entry.split("=", 1)
        predictors[name] = Predictor(path, device, args.resolution)
    rows, kept = evaluate(bank, predictors, pool, args.views)
    names = [*predictors, *BASELINES]
    categories = sorted({r["category"] for r in rows})
    text = table(rows, names, categories)
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{args.split}.md").write_text(text + "\n")
    (out / f"{args.split}.json").write_text(json.dumps(rows))
    chosen = np.random.default_rng(11).permutation(len(kept))[:24]
    last = list(predictors)[-1]
    worst = np.argsort([r[last]["iou"] for r in rows])[:8]
    for label, indices in (("sheet", chosen), ("worst", worst)):
        sheet(out / f"{args.split}-{label}.png", np.stack([kept[i][0] for i in indices]),
              [[kept[i][1][m] for i in indices] for m in predictors], device)
    if args.pictures:
        pictures_sheet(args.pictures, predictors, out / "pictures.png", device)
    print(f"{args.split}: {len(rows)} views of {len(meshes.records)} models at {args.resolution}³ in {time.time() - started:.0f} s\n{text}")


if __name__ == "__main__":
    main()
