"""Compares meshes: solid-voxel IoU at 64³, Chamfer distance, F-scores, and the silhouette and colours seen by the camera.

Both meshes are centred on their bounding boxes and scaled to longest side 1; the truth must already be turned so that the
camera is on +Z. Pure numpy, for worker processes.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

VOXELS, SAMPLES, PAIRS, MASK = 64, 400_000, 8192, 96
NEAREST = 0.55   # as in render.py: how far, of the camera's distance, an object may reach towards it


@dataclass
class Mesh:
    verts: np.ndarray     # [V, 3]
    colours: np.ndarray   # [V, 3], sRGB 0..1
    faces: np.ndarray     # [F, 3]


def _sample(mesh, r):
    """Area-weighted points of the normalised mesh, and their colours."""
    lo, hi = mesh.verts.min(0), mesh.verts.max(0)
    v = (mesh.verts - (lo + hi) / 2) / (hi - lo).max()
    a, b, c = (v[mesh.faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    total = np.cumsum(area)
    i = np.minimum(np.searchsorted(total, r.random(SAMPLES) * total[-1], side="right"), len(area) - 1)
    u = r.random((SAMPLES, 2))
    s = np.sqrt(u[:, :1])
    weights = np.concatenate([1 - s, s * (1 - u[:, 1:]), s * u[:, 1:]], 1)
    mix = lambda x: np.einsum("nk,nkc->nc", weights, x[mesh.faces[i]])
    return mix(v), mix(mesh.colours)


def _solid(points):
    """Surface cells and all that the outside can't reach: bool [64, 64, 64]."""
    g = np.clip(((points * 0.94 + 0.5) * VOXELS).astype(int), 0, VOXELS - 1)
    surface = np.zeros((VOXELS,) * 3, bool)
    surface[g[:, 0], g[:, 1], g[:, 2]] = True
    free, _ = ndimage.label(np.pad(~surface, 1, constant_values=True))
    return ~(free == free[0, 0, 0])[1:-1, 1:-1, 1:-1]


def _seen(points, colours, elevation, s):
    """What the camera sees of the points when they fill the picture: mask [96, 96] and colours [96, 96, 3]."""
    c, t = np.cos(elevation), np.sin(elevation)
    p = np.stack([points[:, 0], points[:, 1] * c - points[:, 2] * t, points[:, 1] * t + points[:, 2] * c], 1)
    p -= (p.min(0) + p.max(0)) / 2
    p *= 0.86 / np.abs(p[:, :2]).max()
    wanted = s
    for _ in range(6):
        s = min(wanted, NEAREST / max(1e-6, np.ptp(p[:, 2]) / 2))
        w = np.maximum(1 - s * p[:, 2], 0.2)
        uv = p[:, :2] / w[:, None]
        lo, hi = uv.min(0), uv.max(0)
        p[:, :2] -= (lo + hi) / 2
        p *= 0.86 * 2 / (hi - lo).max()
    uv = p[:, :2] / np.maximum(1 - s * p[:, 2], 0.2)[:, None]
    order = np.argsort(p[:, 2])
    cell = np.clip(((uv[order] * [1, -1] + 1) * (MASK / 2)).astype(int), 0, MASK - 1)
    mask, picture = np.zeros((MASK, MASK), bool), np.zeros((MASK, MASK, 3))
    mask[cell[:, 1], cell[:, 0]] = True
    picture[cell[:, 1], cell[:, 0]] = colours[order]
    return mask, picture


def score_all(truth, predictions, elevation, s):
    """A dict of measures for each predicted `Mesh` (None counts as a miss)."""
    q, q_colours = _sample(truth, np.random.default_rng(0))
    solid = _solid(q)
    mask, picture = _seen(q, q_colours, elevation, s)
    tree = cKDTree(q[:PAIRS])
    rows = []
    for mesh in predictions:
        if mesh is None or len(mesh.faces) == 0:
            rows.append({"iou": 0.0, "chamfer": 0.5, "f05": 0.0, "f10": 0.0, "silhouette": 0.0, "colour": 0.5})
            continue
        p, p_colours = _sample(mesh, np.random.default_rng(1))
        other = _solid(p)
        d1, d2 = tree.query(p[:PAIRS])[0], cKDTree(p[:PAIRS]).query(q[:PAIRS])[0]
        f = lambda d: 2 * (d1 < d).mean() * (d2 < d).mean() / max(1e-9, (d1 < d).mean() + (d2 < d).mean())
        mask2, picture2 = _seen(p, p_colours, elevation, s)
        both = mask & mask2
        rows.append({"iou": (solid & other).sum() / max(1, (solid | other).sum()), "chamfer": (d1.mean() + d2.mean()) / 2,
                     "f05": f(0.05), "f10": f(0.1), "silhouette": both.sum() / max(1, (mask | mask2).sum()),
                     "colour": np.abs(picture - picture2)[both].mean() if both.any() else 0.5})
    return rows


def ellipsoid(mask, colour):
    """Baseline: the ellipsoid of the silhouette's bounding box, as deep as the smaller of its sides."""
    ys, xs = np.nonzero(mask)
    a, b = (np.ptp(xs) + 1) / 2, (np.ptp(ys) + 1) / 2
    v, u = np.meshgrid(np.linspace(-np.pi / 2, np.pi / 2, 24), np.arange(48) * np.pi / 24, indexing="ij")
    p = np.stack([a * np.cos(v) * np.cos(u), b * np.sin(v), min(a, b) * np.cos(v) * np.sin(u)], -1).reshape(-1, 3)
    r, c = np.meshgrid(np.arange(23), np.arange(48), indexing="ij")
    i, j = r * 48 + c, r * 48 + (c + 1) % 48
    faces = np.stack([i, j, j + 48, i, j + 48, i + 48], -1).reshape(-1, 3)
    return Mesh(p, np.broadcast_to(colour, p.shape), faces)


def extrusion(mask, colour):
    """Baseline: the silhouette extruded to the smaller side of its bounding box."""
    ys, xs = np.nonzero(mask)
    depth = max(2, min(np.ptp(xs), np.ptp(ys)) + 1)
    cells = np.zeros((depth + 2, mask.shape[0] + 2, mask.shape[1] + 2), np.float32)
    cells[1:-1, 1:-1, 1:-1] = mask[::-1]
    return surface(np.ascontiguousarray(cells.transpose(2, 1, 0)) - 0.5, colour)


def surface(field, colour=None):
    """The zero level of a field [x, y, z] as a mesh in cell units, or None where there is none."""
    from skimage.measure import marching_cubes
    field = np.asarray(field, np.float32)
    if not (field.max() > 0 > field.min()):
        return None
    padded = np.pad(field, 1, constant_values=min(-1.0, float(field.min())))
    verts, faces, _, _ = marching_cubes(padded, 0.0)
    return Mesh(verts - 1, np.broadcast_to(0.5 if colour is None else colour, verts.shape), faces)
