"""The shapes: reads the packs, finds inside and outside by depth carving, and keeps everything on the device.

    python data.py --packs DIR [--procedural N]     prints a summary and checks the labels

A `Bank` holds all models. Frame of a model: +Y up, front +Z, bounding box centred, longest side 1.8.
"""

import argparse
import json
import pathlib
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

import kernels
import shapes
from kernels import Long

# Whole packs kept out of training, to measure on styles the model never saw.
HELD_OUT_PACKS = ("quaternius/cute_fish_pack", "kaykit/City-Builder-Bits-1.0", "kenney/Starter-Kit-Racing")
# Corners share a normal across an edge that turns by less than this.
CREASE_DEGREES = 35.0
# Distances are kept up to this far from the surface (model units; the training target is soft over 0.02).
REACH = 0.06
# Half the thickness given to sheets that enclose nothing: a little over half a voxel of the 128 grid.
SHEET = 0.009
GRID_HALF = 0.96


@dataclass
class Meshes:
    """Concatenated triangle meshes; `faces` and `groups` hold indices local to each model."""

    verts: np.ndarray      # float32 [V, 3]
    colours: np.ndarray    # float32 [V, 3], sRGB 0..1
    faces: np.ndarray      # int32 [F, 3]
    v_off: np.ndarray      # int64 [M + 1]
    f_off: np.ndarray      # int64 [M + 1]
    records: list          # one dict a model: id, name, category, pack, split, licence

    def pick(self, keep):
        """The models whose indices are in `keep`."""
        return join([self.one(i) for i in keep], [self.records[i] for i in keep])

    def one(self, i):
        """Vertices, colours and faces of model `i`."""
        v = slice(self.v_off[i], self.v_off[i + 1])
        return self.verts[v], self.colours[v], self.faces[self.f_off[i]:self.f_off[i + 1]]


def join(parts, records):
    """One `Meshes` from (vertices, colours, faces) triples."""
    return Meshes(
        np.concatenate([p[0] for p in parts]).astype(np.float32),
        np.concatenate([p[1] for p in parts]).astype(np.float32),
        np.concatenate([p[2] for p in parts]).astype(np.int32),
        np.cumsum([0] + [len(p[0]) for p in parts]), np.cumsum([0] + [len(p[2]) for p in parts]), list(records))


def read_packs(folder):
    """All models of the packs in `folder` (`train-*.npz`, `val.npz`, `index.json`), in file order."""
    folder = pathlib.Path(folder)
    index = {r["id"]: r for r in json.loads((folder / "index.json").read_text())}
    parts, records = [], []
    for path in [*sorted(folder.glob("train-*.npz")), folder / "val.npz"]:
        z = dict(np.load(path))
        verts = z["verts"].astype(np.float32) * (1.8 / 65535) - 0.9
        colours = z["colors"].astype(np.float32) / 255
        faces = z["faces"].astype(np.int32)
        for i, name in enumerate(z["ids"]):
            v, f = slice(*z["v_off"][i:i + 2]), slice(*z["f_off"][i:i + 2])
            parts.append((verts[v], colours[v], faces[f]))
            records.append({k: index[str(name)][k] for k in ("id", "name", "category", "pack", "split", "licence")})
    return join(parts, records)


def splits(meshes):
    """Index lists by use: `train`, `val`, and `unseen` (the held-out packs)."""
    unseen = [r["pack"] in HELD_OUT_PACKS for r in meshes.records]
    of = lambda test: [i for i, r in enumerate(meshes.records) if test(i, r)]
    return {"train": of(lambda i, r: r["split"] == "train" and not unseen[i]),
            "val": of(lambda i, r: r["split"] == "val"),
            "unseen": of(lambda i, r: r["split"] == "train" and unseen[i])}


def smoothing_groups(meshes):
    """Corner groups that share a normal: int32 [F, 3] local to the model, and offsets [M + 1]."""
    of_face = np.repeat(np.arange(len(meshes.f_off) - 1), np.diff(meshes.f_off))
    faces = meshes.faces + meshes.v_off[of_face][:, None]
    of_vertex = np.repeat(np.arange(len(meshes.v_off) - 1), np.diff(meshes.v_off))
    cells = np.round((meshes.verts + 1.0) * (65535 / 2)).astype(np.int64)
    key = ((of_vertex * 65536 + cells[:, 0]) * 65536 + cells[:, 1]) * 65536 + cells[:, 2]
    welded = np.unique(key, return_inverse=True)[1][faces]
    a, b, c = (meshes.verts[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    # Directed edges in both orders sort together; only edges with exactly two faces can be smooth.
    start, end = welded.ravel(), np.roll(welded, -1, axis=1).ravel()
    face = np.repeat(np.arange(len(faces)), 3)
    corner = np.arange(len(faces) * 3)
    following = corner - corner % 3 + (corner + 1) % 3
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.lexsort((high, low))
    same = (low[order][1:] == low[order][:-1]) & (high[order][1:] == high[order][:-1])
    run_start = np.concatenate([[True], ~same])
    run = np.cumsum(run_start) - 1
    lone_pair = np.bincount(run)[run] == 2
    first = np.nonzero(run_start & lone_pair)[0]
    e0, e1 = order[first], order[first + 1]
    smooth = (normal[face[e0]] * normal[face[e1]]).sum(1) > np.cos(np.radians(CREASE_DEGREES))
    e0, e1 = e0[smooth], e1[smooth]
    # The corners of each edge at its lower and at its higher end.
    at_low = lambda e: np.where(start[e] == low[e], corner[e], following[e])
    at_high = lambda e: np.where(start[e] == low[e], following[e], corner[e])
    i = np.concatenate([at_low(e0), at_high(e0)])
    j = np.concatenate([at_low(e1), at_high(e1)])
    n = len(corner)
    labels = connected_components(coo_matrix((np.ones(len(i), np.int8), (i, j)), shape=(n, n)), directed=False)[1]
    # Renumber by model, so that groups of one model are contiguous.
    _, first_seen, dense = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first_seen), np.int64)
    rank[np.argsort(first_seen)] = np.arange(len(first_seen))
    dense = rank[dense]
    model_of_group = np.sort(of_face[face[first_seen]])
    g_off = np.searchsorted(model_of_group, np.arange(len(meshes.f_off)))  # the last is the total
    return (dense.reshape(-1, 3) - g_off[of_face][:, None]).astype(np.int32), g_off


def view_axes(count):
    """Rows (right, up, towards the camera) of `count` directions spread over the sphere: float32 [count, 9]."""
    k = np.arange(count) + 0.5
    z = 1 - 2 * k / count
    angle = np.pi * (1 + 5 ** 0.5) * k
    d = np.stack([np.sqrt(1 - z * z) * np.cos(angle), z, np.sqrt(1 - z * z) * np.sin(angle)], 1)
    # A fixed tilt, so that no view looks exactly along the axes most models are aligned with.
    t, s = np.radians(11.0), np.radians(7.0)
    rx = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])
    rz = np.array([[np.cos(s), -np.sin(s), 0], [np.sin(s), np.cos(s), 0], [0, 0, 1]])
    d = d @ (rx @ rz).T
    helper = np.where(np.abs(d[:, 1:2]) > 0.9, [[1.0, 0, 0]], [[0, 1.0, 0]])
    right = np.cross(helper, d)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.concatenate([right, np.cross(d, right), d], 1).astype(np.float32)


class Bank:
    """Models on a device: triangles, labels as distance grids, and coloured surface samples.

    Label of a point: negative inside. Inside is what none of `views` orthographic views sees past the surface;
    sheets that enclose nothing become slabs of half-thickness `SHEET`.
    """

    OFFSET = 4.0  # makes depths positive, as the rasteriser's keys must be

    def __init__(self, meshes, device, side=128, views=96, size=320, samples=8192, chunk=16):
        self.meshes, self.device, self.side = meshes, torch.device(device), side
        self.step, self.lo = 2 * GRID_HALF / side, -GRID_HALF
        groups, self.g_off = smoothing_groups(meshes)
        self.groups_total = self.g_off[-1]
        self.g_off, self.reach = self.g_off[:-1], REACH
        on = lambda a, kind: torch.from_numpy(np.ascontiguousarray(a)).to(self.device, kind)
        self.verts, self.colours = on(meshes.verts, torch.float32), on(meshes.colours, torch.float32)
        self.faces, self.groups = on(meshes.faces, torch.int32), on(groups, torch.int32)
        self.v_off, self.f_off = meshes.v_off, meshes.f_off
        count = len(meshes.records)
        self.grids = torch.empty(count, side, side, side, dtype=torch.int8, device=self.device)
        seen = torch.zeros(len(meshes.faces), dtype=torch.uint8, device=self.device)
        axes = torch.from_numpy(view_axes(views)).to(self.device)
        for start in range(0, count, chunk):
            self._label(range(start, min(start + chunk, count)), axes, size, seen)
        self._sample_surfaces(seen, samples)

    def _label(self, models, axes, size, seen):
        d, views, side = self.device, len(axes), self.side
        v0, v1 = self.v_off[models[0]], self.v_off[models[-1] + 1]
        f0, f1 = self.f_off[models[0]], self.f_off[models[-1] + 1]
        local = np.repeat(np.arange(len(models)), np.diff(self.f_off[models[0]:models[-1] + 2]))
        mesh_of_face = torch.from_numpy(local.astype(np.int32)).to(d)
        shift = torch.from_numpy((self.v_off[list(models)] - v0).astype(np.int32)).to(d)
        verts = self.verts[v0:v1]
        faces = (self.faces[f0:f1] + shift[mesh_of_face.long()][:, None]).contiguous()
        of_vertex = torch.from_numpy(np.repeat(np.arange(len(models)), np.diff(self.v_off[models[0]:models[-1] + 2]))).to(d)
        radius = torch.zeros(len(models), device=d).scatter_reduce(0, of_vertex, verts.norm(dim=1), "amax") * 1.02
        # One rasterisation of all views of all models: vertices are repeated a view.
        seen_here = torch.zeros(f1 - f0, dtype=torch.uint8, device=d)
        keys = torch.empty(len(models), views, size, size, device=d)
        per_view = len(faces)
        scale = size / (2 * radius[of_vertex])[:, None]
        for first in range(0, views, 16):
            ax = axes[first:first + 16].view(-1, 3, 3)
            n = len(ax)
            local_axes = torch.einsum("vc,nkc->nvk", verts, ax)
            screen = torch.cat([(local_axes[..., :2] + radius[of_vertex][:, None]) * scale, local_axes[..., 2:] + self.OFFSET], 2).contiguous()
            all_faces = (faces[None] + (torch.arange(n, device=d, dtype=torch.int32) * len(verts))[:, None, None]).reshape(-1, 3).contiguous()
            image = (mesh_of_face[None] * n + torch.arange(n, device=d, dtype=torch.int32)[:, None]).reshape(-1).contiguous()
            buffer = torch.full((len(models), n, size, size), -1, dtype=torch.int64, device=d)
            kernels.call("raster", screen, all_faces, image, buffer, Long(n * per_view), size, device=d)
            found = torch.zeros(n * per_view, dtype=torch.uint8, device=d)
            key = torch.empty(len(models), n, size, size, device=d)
            kernels.call("resolve", buffer, key, found, Long(key.numel()), device=d)
            seen_here |= found.view(n, per_view).amax(0)
            # The nearest of 3 x 3 pixels closes the pinholes between triangles that don't share vertices.
            keys[:, first:first + n] = torch.nn.functional.max_pool2d(key.view(-1, 1, size, size), 3, 1, 1).view_as(key)
        seen[f0:f1] = seen_here
        inside = torch.empty(len(models), side, side, side, dtype=torch.uint8, device=d)
        kernels.call("carve", keys, axes, radius, inside, Long(len(models)), side, views, size, self.lo, self.step, self.OFFSET, device=d)
        sheets = seen_here & self._is_sheet(verts, faces, mesh_of_face, inside)
        self.grids[models[0]:models[-1] + 1] = self._signed(verts, faces, mesh_of_face, seen_here, sheets, inside)

    def _is_sheet(self, verts, faces, mesh_of_face, inside):
        """Marks faces with no inside close behind or before their middle: uint8 [F]."""
        corners = verts[faces.long()]
        normal = torch.nn.functional.normalize(torch.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=1), dim=1)
        sheet = torch.ones(len(faces), dtype=torch.bool, device=verts.device)
        for weights in ([1 / 3, 1 / 3, 1 / 3], [0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]):
            middle = (corners * torch.tensor(weights, device=verts.device)[None, :, None]).sum(1)
            for side in (-1.2 * self.step, 1.2 * self.step):
                cell = ((middle + side * normal - self.lo) / self.step).long().clamp(0, self.side - 1)
                sheet &= inside[mesh_of_face.long(), cell[:, 0], cell[:, 1], cell[:, 2]] == 0
        return sheet.to(torch.uint8)

    def _signed(self, verts, faces, mesh_of_face, seen, sheets, inside):
        def distance(marked):
            bits = torch.full(inside.shape, 0x7F000000, dtype=torch.int32, device=verts.device)
            kernels.call("splat", verts, faces, mesh_of_face, marked.contiguous(), bits, Long(len(faces)), self.side, self.lo, self.step,
                         REACH + 0.5 * self.step, device=verts.device)
            return bits.view(torch.float32).clamp(max=REACH)

        outside = (1 - inside).to(torch.float16)[:, None]
        depth = distance(seen)
        # Parts of visible triangles can lie inside a solid: what has no outside near is at least that deep.
        pooled = outside
        for ring in (1, 2, 3):
            pooled = torch.nn.functional.max_pool3d(pooled.float(), 3, 1, 1).to(torch.float16)
            deep = (pooled[:, 0] == 0) & (inside > 0)
            depth = torch.where(deep, depth.clamp(min=min((ring - 0.5) * self.step, REACH)), depth)
        signed = torch.where(inside > 0, -depth, depth)
        signed = torch.minimum(signed, distance(sheets) - SHEET)
        return (signed * (127 / REACH)).round().clamp(-127, 127).to(torch.int8)

    def _sample_surfaces(self, seen, samples):
        """Points on visible surfaces, `samples` a model: `points` [M, S, 3] and `tints` [M, S, 3] (sRGB, uint8)."""
        d = self.device
        count = len(self.meshes.records)
        of_face = torch.from_numpy(np.repeat(np.arange(count), np.diff(self.f_off))).to(d)
        faces = self.faces.long() + torch.from_numpy(np.asarray(self.v_off)).to(d)[of_face][:, None]
        corners = self.verts[faces]
        area = torch.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=1).norm(dim=1) * seen.float()
        total = torch.cat([torch.zeros(1, dtype=torch.float64, device=d), area.double().cumsum(0)])
        bounds = total[torch.from_numpy(np.asarray(self.f_off)).to(d)]
        generator = torch.Generator(d).manual_seed(0)
        self.points = torch.empty(count, samples, 3, device=d)
        self.tints = torch.empty(count, samples, 3, dtype=torch.uint8, device=d)
        for start in range(0, count, 256):
            some = slice(start, min(start + 256, count))
            lo, hi = bounds[:-1][some, None], bounds[1:][some, None]
            n = len(lo)
            r = torch.rand(n, samples, device=d, dtype=torch.float64, generator=generator)
            face = (torch.searchsorted(total, lo + (hi - lo) * r, right=True) - 1).clamp(0, len(area) - 1)
            u, v = torch.rand(2, n, samples, 1, device=d, generator=generator)
            u = u.sqrt()
            weights = torch.stack([1 - u, u * (1 - v), u * v], 2)
            self.points[some] = (corners[face] * weights).sum(2)
            self.tints[some] = ((self.colours[faces[face]] * weights).sum(2) * 255).round().clamp(0, 255).to(torch.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", required=True)
    parser.add_argument("--procedural", type=int, default=0)
    parser.add_argument("--limit", type=int, default=0, help="only the first models of the validation split")
    parser.add_argument("--side", type=int, default=128)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    meshes = read_packs(args.packs)
    uses = splits(meshes)
    print({k: len(v) for k, v in uses.items()})
    if args.limit:
        meshes = meshes.pick(uses["val"][:args.limit])
    if args.procedural:
        meshes = shapes.make_meshes(args.procedural, seed=1)
    started = time.time()
    bank = Bank(meshes, device, side=args.side)
    inside = (bank.grids < 0).float().mean((1, 2, 3)).cpu()
    print(f"{len(meshes.records)} models in {time.time() - started:.1f} s; inside share {inside.mean():.4f}, "
          f"empty {(inside == 0).sum().item()}")


if __name__ == "__main__":
    main()
