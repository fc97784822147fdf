"""Pictures of meshes, for the sheets in the model card."""

import numpy as np
import torch
from PIL import Image

import render

SIDES = (-30, 75)   # azimuths from which a mesh is shown, degrees


class PlainBank:
    """Meshes for drawing only: everything outside, smooth vertices. What a `render.Scenes` reads of a `data.Bank`."""

    def __init__(self, meshes):
        join = lambda parts, kind: torch.from_numpy(np.concatenate(parts)).to(kind)
        self.device = torch.device("cpu")
        self.verts, self.colours = join([m.verts for m in meshes], torch.float32), join([m.colours for m in meshes], torch.float32)
        self.faces = join([m.faces for m in meshes], torch.int32)
        self.groups = self.faces
        self.v_off = np.cumsum([0] + [len(m.verts) for m in meshes])
        self.f_off = np.cumsum([0] + [len(m.faces) for m in meshes])
        self.g_off, self.groups_total = self.v_off[:-1], self.v_off[-1]
        self.side, self.lo, self.step, self.reach = 2, -1.0, 1.0, 0.06
        self.grids = torch.full((len(meshes), 2, 2, 2), 127, dtype=torch.int8)


def draw(meshes, azimuth, elevation=0.25):
    """Meshes in the contract's frame from an azimuth (radians): uint8 [B, 192, 192, 3] on white."""
    p = render.plan(np.random.default_rng(3), lambda r, n: np.arange(n), len(meshes), render.CLEAN)
    p["azimuth"][:], p["elevation"][:], p["s"][:] = azimuth, elevation, 0.3
    light = render._lights(np.random.default_rng(5), 1, np.array([elevation]))
    light[:, 0:3], light[:, 3:6], light[:, 12:15], light[:, 15:18] = (-0.4, 0.6, 0.69), 0.75, 0.45, 0.25
    light[:, 21], light[:, 23], light[:, 25], light[:, 26] = 0.0, 1.0, 0.0, 0.4
    p["light"] = np.repeat(light, len(meshes), 0)
    rgba = render.Scenes(PlainBank(meshes), p).picture()[0]
    return (rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1).mul(255).byte().permute(0, 2, 3, 1).numpy()


def sheet(path, pictures, columns, count=2):
    """Each picture [192, 192, 3] beside every column's meshes from two sides, `count` pictures abreast."""
    strips = [np.stack(pictures)]
    for meshes in columns:
        strips += [draw(meshes, np.radians(side)) for side in SIDES]
    rows = np.concatenate(strips, 2)
    rows = [np.concatenate(list(rows[i:i + count]), 1) for i in range(0, len(rows) - count + 1, count)]
    Image.fromarray(np.concatenate(rows)).quantize(128).save(path, optimize=True)
