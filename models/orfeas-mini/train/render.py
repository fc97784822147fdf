"""Scenes: random arrangements of the bank's models, their pictures, and labelled points.

    python render.py --packs DIR --out sheet.png     draws a sheet of training pictures

View space is in crop units: the crop is [-1, 1] in x and y at depth 0, the camera looks along -z from z = 1 / s,
a point projects to u = x / (1 - s z). Turning view space back by the elevation makes it upright.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

import kernels
from kernels import Long

IMAGE = 192
DEPTH_SIDE = 96        # of the depth targets: the model's pixel map
DEPTH_HALF = 1.6       # the model's box is ±1 in x and y and this much in depth
SOFTNESS = 0.02        # target occupancy is sigmoid(-distance / SOFTNESS)
SHADOW_SIZE, SHADOW_HALF, OFFSET = 256, 1.9, 4.0
NEAREST = 0.55         # of the camera's distance: how far the object may reach towards it
BLOCK = 8              # JPEG's
SEVERAL = (0.95, 0.04, 0.01)   # shares of scenes with one, two and three models


@dataclass
class SceneOptions:
    """What varies between pictures. `clean` is the validation setting: one model, plain grey, no wear."""

    clean: bool = False
    fill: tuple = (0.78, 0.93)
    elevation: tuple = (-10.0, 50.0)
    fov: tuple = (20.0, 55.0)


# One object as the server frames it.
CLEAN = SceneOptions(clean=True, fill=(0.86, 0.86))


def rotation(x=0.0, y=0.0, z=0.0):
    """Rotations about x after y after z, batched: float64 [n, 3, 3]."""
    x, y, z = np.broadcast_arrays(np.atleast_1d(x), y, z)
    o, i = np.zeros_like(x, float), np.ones_like(x, float)
    stack = lambda *rows: np.stack([np.stack(r, -1) for r in rows], -2)
    rx = stack((i, o, o), (o, np.cos(x), -np.sin(x)), (o, np.sin(x), np.cos(x)))
    ry = stack((np.cos(y), o, np.sin(y)), (o, i, o), (-np.sin(y), o, np.cos(y)))
    rz = stack((np.cos(z), -np.sin(z), o), (np.sin(z), np.cos(z), o), (o, o, i))
    return rx @ ry @ rz


def _recolouring(r, n):
    """Colour matrices, more than half of them identity: hue turn, saturation, brightness."""
    angle = r.uniform(-np.pi, np.pi, n)
    saturation, value = r.uniform(0.3, 1.4, n), r.uniform(0.6, 1.25, n)
    luma = np.array([[0.299, 0.587, 0.114]] * 3)
    axis = np.full(3, 1 / np.sqrt(3))
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle)[:, None, None] * k + (1 - np.cos(angle))[:, None, None] * (k @ k)
    matrix = value[:, None, None] * (luma + saturation[:, None, None] * (np.eye(3) - luma)) @ turn
    keep = r.random(n) < 0.6
    matrix[keep] = np.eye(3)
    return matrix


def plan(r, pick, batch, options):
    """The random numbers of a batch: a dict of numpy arrays. `pick(r, n)` draws model indices."""
    count = np.ones(batch, int) if options.clean else r.choice([1, 2, 3], batch, p=SEVERAL)
    n = count.sum()
    scene = np.repeat(np.arange(batch), count)
    first = np.concatenate([[True], scene[1:] != scene[:-1]])
    p = {"count": count, "scene": scene, "mesh": pick(r, n)}
    if options.clean:
        p["world"], p["shift"], p["deform"] = np.tile(np.eye(3), (n, 1, 1)), np.zeros((n, 3)), np.zeros((n, 2))
        p["recolour"] = np.tile(np.eye(3), (n, 1, 1))
    else:
        # Things have the proportions they have: what is stretched at random can't be told from the picture's front.
        stretch = np.exp(np.clip(r.normal(0, 0.2, (n, 3)), -0.45, 0.45) * (r.random((n, 1)) < 0.2))
        stretch[:, 0] *= r.choice([-1, 1], n)
        stretch *= np.where(first, 1.0, r.uniform(0.35, 0.9, n))[:, None]
        tilt = r.uniform(-1, 1, (n, 2)) * np.where(r.random(n) < 0.02, np.pi, np.where(r.random(n) < 0.1, 0.15, 0.0))[:, None]
        yaw = np.where(first, 0.0, r.uniform(-np.pi, np.pi, n))
        p["world"] = rotation(tilt[:, 0], yaw, tilt[:, 1]) * stretch[:, None, :]
        p["shift"] = np.where(first[:, None], 0.0, r.normal(0, 0.6, (n, 3)))
        p["deform"] = np.stack([r.uniform(-0.35, 0.35, n) * (r.random(n) < 0.05), r.uniform(-0.7, 0.7, n) * (r.random(n) < 0.03)], 1)
        p["recolour"] = _recolouring(r, n)
    uniform = lambda lo, hi: r.uniform(lo, hi, batch)
    p["azimuth"] = uniform(-np.pi, np.pi)
    common = uniform(0, 40)
    p["elevation"] = np.radians(np.where(r.random(batch) < 0.6, common, uniform(*options.elevation)))
    p["roll"] = uniform(-0.07, 0.07) * (r.random(batch) < 0.2) * (not options.clean)
    p["s"] = np.tan(np.radians(uniform(*options.fov)) / 2)
    loose = (r.random(batch) < 0.06) & (not options.clean)
    p["fill"] = np.where(loose, uniform(0.5, 0.95), uniform(*options.fill))
    p["off_centre"] = r.uniform(-1, 1, (batch, 2)) * np.where(loose, 0.12, 0.0 if options.clean else 0.02)[:, None]
    p["light"] = _lights(r, batch, p["elevation"])
    return p


def _lights(r, batch, elevation):
    """Rows of the kernels' LIGHT floats, but for s; directions are in view space."""
    uniform = lambda lo, hi: r.uniform(lo, hi, batch)
    to_view = rotation(elevation)

    def direction(side, low, high):
        a, e = np.radians(uniform(-side, side)), np.radians(uniform(low, high))
        d = np.stack([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], 1)
        return np.einsum("nij,nj->ni", to_view, d)

    tint = lambda spread: 1 + r.uniform(-spread, spread, (batch, 3))
    light = np.zeros((batch, 28))
    light[:, 0:3] = direction(110, 15, 80)
    light[:, 3:6] = uniform(0.35, 1.1)[:, None] * tint(0.12)
    light[:, 6:9] = direction(180, -20, 60)
    light[:, 9:12] = (uniform(0, 0.35) * (r.random(batch) < 0.7))[:, None] * tint(0.15)
    light[:, 12:15] = uniform(0.2, 0.65)[:, None] * tint(0.08)
    light[:, 15:18] = uniform(0.1, 0.35)[:, None] * tint(0.1)
    light[:, 18:21] = to_view[:, :, 1]
    light[:, 21] = uniform(0, 0.6) * (r.random(batch) < 0.5)
    light[:, 22] = np.exp(uniform(1.5, 4.2))
    light[:, 23] = uniform(0.75, 1.25)
    light[:, 24] = uniform(0, 0.7)
    light[:, 25] = r.random(batch) < 0.25
    light[:, 26] = uniform(0.3, 1.0) * (r.random(batch) < 0.65)
    return light


class Scenes:
    """A planned batch on the bank's device: transformed triangles, the field, the picture."""

    def __init__(self, bank, p):
        d = bank.device
        self.bank, self.batch = bank, len(p["count"])
        send = lambda a, kind=torch.float32: torch.from_numpy(np.ascontiguousarray(a)).to(kind).to(d, non_blocking=True)
        view = rotation(p["elevation"], p["azimuth"] * -1.0)
        roll = rotation(0.0, 0.0, p["roll"])
        view = (roll @ view)[p["scene"]]
        self.scene = send(p["scene"], torch.int64)
        self.mesh = send(p["mesh"], torch.int32)
        matrix = view @ p["world"]
        self.matrix = send(matrix)
        self.shift = send(np.einsum("nij,nj->ni", view, p["shift"]))
        self.deform, self.recolour = send(p["deform"]), send(p["recolour"])
        self.s, self.elevation = send(p["s"]), send(p["elevation"])
        self.offset = send(np.concatenate([[0], np.cumsum(p["count"])]), torch.int32)
        volume = send(np.cbrt(np.abs(np.linalg.det(p["world"]))))
        self._gather(p["mesh"])
        self._fit(send(p["fill"]), send(p["off_centre"]))
        inverse = send(np.linalg.inv(matrix))
        scale, centre = self.scale[self.scene], self.centre[self.scene]
        self.inverse = torch.cat([inverse / scale[:, None, None], (inverse @ (centre - self.shift)[:, :, None])], 2).contiguous()
        self.field_deform = torch.cat([self.deform, (volume * scale)[:, None]], 1).contiguous()
        light = send(p["light"])
        light[:, 27] = self.s
        self.light = light.contiguous()

    def _gather(self, mesh):
        bank, d = self.bank, self.bank.device
        v_count, f_count = np.diff(bank.v_off)[mesh], np.diff(bank.f_off)[mesh]
        g_count = np.diff(np.append(bank.g_off, bank.groups_total))[mesh]
        ramp = lambda start, count: np.repeat(start - np.concatenate([[0], np.cumsum(count)[:-1]]), count) + np.arange(count.sum())
        send = lambda a: torch.from_numpy(a).to(d, non_blocking=True)
        of_vertex, of_face = np.repeat(np.arange(len(mesh)), v_count), np.repeat(np.arange(len(mesh)), f_count)
        self.of_vertex, self.of_face = send(of_vertex), send(of_face)
        verts, faces = send(ramp(bank.v_off[mesh], v_count)), send(ramp(bank.f_off[mesh], f_count))
        v_base, g_base = np.concatenate([[0], np.cumsum(v_count)[:-1]]), np.concatenate([[0], np.cumsum(g_count)[:-1]])
        bases = send(np.stack([v_base, g_base]).astype(np.int32))[:, self.of_face]
        self.raw = bank.verts[verts]
        self.faces = (bank.faces[faces] + bases[0][:, None]).contiguous()
        self.groups = (bank.groups[faces] + bases[1][:, None]).contiguous()
        self.groups_count = int(g_count.sum())
        matrix = self.recolour[self.of_vertex]
        self.colours = (matrix @ bank.colours[verts][:, :, None])[:, :, 0].clamp(0, 1).contiguous()
        self.image_of_face = self.scene[self.of_face].to(torch.int32).contiguous()

    def _turned(self, points, instance):
        """Model points of the given instances in view directions, before centring and scaling."""
        deform = self.deform[instance]
        y = points[..., 1].clamp(-1, 1)
        c, s = torch.cos(deform[..., 1] * y), torch.sin(deform[..., 1] * y)
        wide = 1 + deform[..., 0] * y
        x, z = points[..., 0], points[..., 2]
        points = torch.stack([(c * x + s * z) * wide, points[..., 1], (c * z - s * x) * wide], -1)
        return (self.matrix[instance] @ points[..., None])[..., 0] + self.shift[instance]

    def _fit(self, fill, off_centre):
        """Finds centre and scale, so that the silhouette's bounding square fills `fill` of the crop."""
        turned = self._turned(self.raw, self.of_vertex)
        scene = self.scene[self.of_vertex]
        index = scene[:, None].expand(-1, 3)

        def bounds(p):
            empty = torch.zeros(self.batch, p.shape[1], device=p.device)
            return (empty.scatter_reduce(0, index[:, :p.shape[1]], p, "amin", include_self=False),
                    empty.scatter_reduce(0, index[:, :p.shape[1]], p, "amax", include_self=False))

        lo, hi = bounds(turned)
        centre = (lo + hi) / 2
        scale = fill / ((hi - lo)[:, :2].amax(1) / 2)
        depth = (hi - lo)[:, 2] / 2
        wanted = self.s
        for _ in range(8):
            # The camera keeps clear of long things that point at it.
            self.s = torch.minimum(wanted, NEAREST / (scale * depth))
            p = (turned - centre[scene]) * scale[scene][:, None]
            w = (1 - self.s[scene] * p[:, 2]).clamp(min=0.2)
            lo, hi = bounds(p[:, :2] / w[:, None])
            centre = torch.cat([centre[:, :2] + (lo + hi) / 2 / scale[:, None], centre[:, 2:]], 1)
            scale = scale * fill / ((hi - lo).amax(1) / 2)
        self.s = torch.minimum(self.s, NEAREST / (scale * depth))
        centre = torch.cat([centre[:, :2] - off_centre / scale[:, None], centre[:, 2:]], 1)
        self.centre, self.scale = centre, scale
        self.verts = ((turned - centre[scene]) * scale[scene][:, None]).contiguous()
        self.low, self.high = bounds(self.verts)

    def to_view(self, points, instance):
        """Model points [..., 3] of the given instances in view space."""
        scene = self.scene[instance]
        return (self._turned(points, instance) - self.centre[scene]) * self.scale[scene][..., None]

    def _field_arguments(self):
        bank = self.bank
        return (bank.grids, self.offset, self.mesh, self.inverse, self.field_deform, bank.side, bank.lo, bank.step, bank.reach)

    def distance(self, points):
        """Signed distance in crop units at view-space points [B, N, 3]; ±1 stands for far."""
        points = points.contiguous()
        out = torch.empty(points.shape[:2], device=points.device)
        kernels.call("field", *self._field_arguments(), points, out, Long(self.batch), Long(points.shape[1]), device=points.device)
        return out

    def _rasterise(self, screen, size):
        buffer = torch.full((self.batch, size, size), -1, dtype=torch.int64, device=self.bank.device)
        kernels.call("raster", screen.contiguous(), self.faces, self.image_of_face, buffer, Long(len(self.faces)), size, device=self.bank.device)
        return buffer

    def _shadow(self):
        d = self.light[:, 0:3]
        helper = torch.tensor([[0.31, 0.02, 0.95]], device=d.device).expand_as(d)
        right = F.normalize(torch.cross(helper, d, dim=1), dim=1)
        axes = torch.stack([right, torch.cross(d, right, dim=1), d], 1)
        local = (axes[self.scene[self.of_vertex]] @ self.verts[:, :, None])[:, :, 0]
        grow = SHADOW_SIZE / (2 * SHADOW_HALF)
        buffer = self._rasterise(torch.cat([(local[:, :2] + SHADOW_HALF) * grow, local[:, 2:] + OFFSET], 1), SHADOW_SIZE)
        key = torch.empty(buffer.shape, device=d.device)
        kernels.call("resolve", buffer, key, None, Long(key.numel()), device=d.device)
        extra = torch.tensor([[SHADOW_HALF, OFFSET, 0.0]], device=d.device).expand(self.batch, -1)
        return key, torch.cat([axes.reshape(-1, 9), extra], 1).contiguous()

    def _projected(self):
        """Where the camera sees each vertex, -1..1 from the left and from the top, and its key: 1 / w, greatest nearest."""
        w = (1 - self.s[self.scene[self.of_vertex]] * self.verts[:, 2]).clamp(min=0.05)
        return self.verts[:, 0] / w, -self.verts[:, 1] / w, 1 / w

    def picture(self, over=2, size=IMAGE):
        """Premultiplied sRGB and coverage [B, 4, S, S], albedo [B, 3, S, S], 1 / w of the nearest surface [B, S, S]."""
        d = self.bank.device
        fine = size * over
        u, v, key = self._projected()
        buffer = self._rasterise(torch.stack([(u + 1) * (fine / 2), (v + 1) * (fine / 2), key], 1), fine)
        sums = torch.zeros(self.groups_count, 3, device=d)
        kernels.call("normals", self.verts, self.faces, self.groups, sums, Long(len(self.faces)), device=d)
        shadow, axes = self._shadow()
        rgba = torch.empty(self.batch, 4, size, size, device=d)
        albedo = torch.empty(self.batch, 3, size, size, device=d)
        depth = torch.empty(self.batch, size, size, device=d)
        kernels.call("shade", buffer, self.verts, self.colours, sums, self.faces, self.groups, self.light, shadow, axes,
                     *self._field_arguments(), rgba, albedo, depth, Long(self.batch), size, over, SHADOW_SIZE, device=d)
        return rgba, albedo, depth


    def depths(self):
        """Depth of the nearest and of the farthest surface on each pixel's ray, in units of the box, and where there is any.

        float32 [B, 2, 96, 96] and bool [B, 1, 96, 96].
        """
        u, v, key = self._projected()
        planes = []
        # A key that falls with 1 / w lets the farthest surface win.
        for keyed, back in ((key, lambda k: k), (OFFSET - key, lambda k: OFFSET - k)):
            buffer = self._rasterise(torch.stack([(u + 1) * (DEPTH_SIDE / 2), (v + 1) * (DEPTH_SIDE / 2), keyed], 1), DEPTH_SIDE)
            out = torch.empty(buffer.shape, device=buffer.device)
            kernels.call("resolve", buffer, out, None, Long(out.numel()), device=buffer.device)
            there = out > 0
            planes.append((1 - 1 / back(out).clamp(min=0.2)) / (self.s[:, None, None] * DEPTH_HALF))
        return torch.stack(planes, 1).clamp(-1.5, 1.5), there[:, None]


def clean_views(bank, views, seed, at_once):
    """Seeded views of every model in turn, as models are measured on: yields model indices, plan and scenes, some at a time."""
    order = np.repeat(np.arange(len(bank.meshes.records)), views)
    for start in range(0, len(order), at_once):
        part = order[start:start + at_once]
        p = plan(np.random.default_rng([seed, start]), lambda r, n: part, len(part), CLEAN)
        yield part, p, Scenes(bank, p)


def _chance(g, n, p, device):
    return (torch.rand(n, 1, 1, 1, device=device, generator=g) < p).float()


def backgrounds(g, batch, device):
    """Half plain grey 0.5, the rest solid, gradient, checker or cloudy noise: [B, 3, S, S]."""
    rand = lambda *shape: torch.rand(*shape, device=device, generator=g)
    line = torch.linspace(-1, 1, IMAGE, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    first, second = rand(batch, 3, 1, 1), rand(batch, 3, 1, 1)
    second = torch.lerp(first, second, rand(batch, 1, 1, 1))
    angle = rand(batch, 1, 1, 1) * 6.2832
    ramp = ((x * torch.cos(angle) + y * torch.sin(angle)) * 0.5 + 0.5).clamp(0, 1)
    cells = 2 + 10 * rand(batch, 1, 1, 1)
    checker = ((torch.floor((x + 1) * cells) + torch.floor((y + 1) * cells)) % 2)
    cloud = sum(F.interpolate(rand(batch, 3, k, k), (IMAGE, IMAGE), mode="bicubic") * weight
                for k, weight in ((3, 0.5), (9, 0.3), (40, 0.2)))
    photo = (first + (cloud - 0.5) * (0.4 + 1.6 * rand(batch, 1, 1, 1)) + 0.4 * (ramp - 0.5)).clamp(0, 1)
    kind = rand(batch, 1, 1, 1)
    out = torch.where(kind < 0.08, first.expand_as(photo), torch.lerp(first, second, ramp))
    out = torch.where((kind > 0.2) & (kind < 0.27), torch.lerp(first, second, checker), out)
    out = torch.where((kind > 0.27) & (kind < 0.5), photo, out)
    return torch.where(kind >= 0.5, torch.full_like(out, 0.5), out)


def _dct():
    k = torch.arange(BLOCK, dtype=torch.float64)
    m = torch.cos((2 * k[None] + 1) * k[:, None] * np.pi / (2 * BLOCK)) * (2 / BLOCK) ** 0.5
    m[0] /= 2 ** 0.5
    return m.float()


def wear(g, picture):
    """Blur, noise and 8 x 8 block quantisation, each on a part of the pictures."""
    batch, device = len(picture), picture.device
    rand = lambda *shape: torch.rand(*shape, device=device, generator=g)
    sigma = 0.25 + 0.9 * rand(batch, 1)
    taps = torch.exp(-torch.arange(-2, 3, device=device).float() ** 2 / (2 * sigma ** 2))
    taps = taps / taps.sum(1, keepdim=True)
    kernel = (taps[:, :, None] * taps[:, None, :]).repeat_interleave(3, 0)[:, None]
    blurred = F.conv2d(F.pad(picture, (2, 2, 2, 2), mode="replicate").reshape(1, batch * 3, IMAGE + 4, IMAGE + 4), kernel, groups=batch * 3).view_as(picture)
    picture = torch.lerp(picture, blurred, _chance(g, batch, 0.6, device))
    amount = 0.04 * rand(batch, 1, 1, 1) * _chance(g, batch, 0.4, device)
    picture = picture + amount * torch.randn(picture.shape, device=device, generator=g)
    m = _dct().to(device)
    n = IMAGE // BLOCK
    blocks = picture.view(batch, 3, n, BLOCK, n, BLOCK).permute(0, 1, 2, 4, 3, 5)
    frequency = torch.arange(BLOCK, device=device).float()
    quantum = (0.01 + 0.05 * rand(batch, 1, 1, 1, 1, 1)) * (1 + 0.5 * (frequency[:, None] + frequency[None]))
    coefficients = m @ blocks @ m.T
    blocks = m.T @ ((coefficients / quantum).round() * quantum) @ m
    coarse = blocks.permute(0, 1, 2, 4, 3, 5).reshape(picture.shape)
    return torch.lerp(picture, coarse, _chance(g, batch, 0.25, device)).clamp(0, 1)


def compose(g, rgba):
    """Training pictures from coverage pictures: background, the object's soft shadow on it, wear."""
    batch, device = len(rgba), rgba.device
    ground = backgrounds(g, batch, device)
    alpha = rgba[:, 3:]
    blob = F.avg_pool2d(F.avg_pool2d(alpha, 25, 1, 12), 25, 1, 12).roll(10, 2)
    plain = (ground == 0.5).all(1, keepdim=True).all(2, keepdim=True).all(3, keepdim=True).float()
    ground = ground * (1 - blob * torch.rand(batch, 1, 1, 1, device=device, generator=g) * 0.7 * (1 - plain))
    return wear(g, rgba[:, :3] + (1 - alpha) * ground)


def on_grey(rgba):
    """The picture as the server makes it from one with alpha."""
    return (rgba[:, :3] + (1 - rgba[:, 3:]) * 0.5).clamp(0, 1)


NEAR, ON, SEEN, SPREAD = 768, 512, 1024, 768     # points a scene by kind
RAYS_ON, RAYS_OFF, RAY_STEPS = 40, 24, 40         # camera rays through the object and past it, and points on each
COLOURED = ON + NEAR // 3                         # the first so many carry a colour


def _rays(scenes, alpha, g):
    """Points on camera rays, ray by ray: first rays through the object (thin parts oftener), then close misses."""
    b, d = scenes.batch, alpha.device
    around = F.avg_pool2d(alpha[:, None], 17, 1, 8)[:, 0]
    through = (alpha > 0.9).float() / (around + 0.05)
    past = ((alpha == 0) & (around > 0)).float()
    pick = lambda weight, n: torch.multinomial(weight.flatten(1) + 1e-9, n, replacement=True, generator=g)
    pixel = torch.cat([pick(through, RAYS_ON), pick(past, RAYS_OFF)], 1)
    u = ((pixel % IMAGE) + 0.5) * (2 / IMAGE) - 1
    v = (torch.div(pixel, IMAGE, rounding_mode="floor") + 0.5) * (2 / IMAGE) - 1
    n = RAYS_ON + RAYS_OFF
    share = (torch.arange(RAY_STEPS, device=d) + torch.rand(b, n, RAY_STEPS, device=d, generator=g)) / RAY_STEPS
    low, high = scenes.low[:, 2, None, None] - 0.05, scenes.high[:, 2, None, None] + 0.05
    z = low + (high - low) * share
    w = 1 - scenes.s[:, None, None] * z
    return torch.stack([u[..., None] * w, -v[..., None] * w, z], 3).view(b, n * RAY_STEPS, 3)


def training_batch(bank, p, g):
    """What a training step needs: image, mask at 96², points in the model's box, soft occupancy, colours, camera."""
    scenes = Scenes(bank, p)
    rgba, _, depth = scenes.picture()
    b, d = scenes.batch, bank.device
    rand = lambda *shape: torch.rand(*shape, device=d, generator=g)
    normal = lambda *shape: torch.randn(*shape, device=d, generator=g)
    count = (scenes.offset[1:] - scenes.offset[:-1])[:, None]
    instance = (scenes.offset[:-1, None] + (rand(b, ON + NEAR) * count).long().clamp(max=count.long() - 1)).long()
    which = torch.randint(bank.points.shape[1], instance.shape, device=d, generator=g)
    mesh = scenes.mesh.long()[instance]
    surface = scenes.to_view(bank.points[mesh, which], instance)
    tint = bank.tints[mesh[:, :COLOURED], which[:, :COLOURED]].float() / 255
    colour = (scenes.recolour[instance[:, :COLOURED]] @ tint[..., None])[..., 0].clamp(0, 1)
    spread = torch.cat([torch.zeros(ON), torch.full((NEAR // 3,), 0.012), torch.full((NEAR // 3,), 0.05),
                        torch.full((NEAR - 2 * (NEAR // 3),), 0.12)]).to(d, non_blocking=True)
    near = surface + normal(surface.shape) * spread[:, None]
    pixel = torch.multinomial((depth.flatten(1) > 0).float() + 1e-9, SEEN, replacement=True, generator=g)
    w = 1 / depth.flatten(1).gather(1, pixel).clamp(min=0.3)
    w = w - scenes.s[:, None] * normal(b, SEEN) * torch.where(rand(b, SEEN) < 0.6, 0.02, 0.15)
    u = ((pixel % IMAGE) + rand(b, SEEN)) * (2 / IMAGE) - 1
    v = (torch.div(pixel, IMAGE, rounding_mode="floor") + rand(b, SEEN)) * (2 / IMAGE) - 1
    seen = torch.stack([u * w, -v * w, (1 - w) / scenes.s[:, None]], 2)
    box = torch.tensor([1.0, 1.0, DEPTH_HALF], device=d)
    wide = (rand(b, SPREAD // 2, 3) * 2 - 1) * box
    low, high = scenes.low[:, None] - 0.1, scenes.high[:, None] + 0.1
    tight = low + (high - low) * rand(b, SPREAD - SPREAD // 2, 3)
    rays = _rays(scenes, rgba[:, 3], g)
    points = torch.cat([near, seen, wide, tight, rays], 1)
    distance = scenes.distance(points)
    target = torch.where(distance.abs() > 0.9, (distance < 0).float(), torch.sigmoid(-distance / SOFTNESS))
    depths, there = scenes.depths()
    return {"image": compose(g, rgba), "mask": F.avg_pool2d(rgba[:, 3:], 2), "depths": depths, "there": there.float(),
            "points": points / box, "target": target, "colour": colour, "colour_weight": (distance[:, :COLOURED].abs() < 0.04).float(),
            "camera": torch.stack([scenes.elevation, scenes.s], 1)}


def main():
    from PIL import Image

    import data
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--models", type=int, default=24)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    meshes = data.read_packs(args.packs)
    bank = data.Bank(meshes.pick(data.splits(meshes)["val"][:args.models]), device, side=64, samples=512)
    r = np.random.default_rng(0)
    p = plan(r, lambda r, n: r.integers(0, args.models, n), args.models, SceneOptions())
    batch = training_batch(bank, p, torch.Generator(device).manual_seed(0))
    rows = batch["image"].cpu().mul(255).byte().permute(0, 2, 3, 1).numpy()
    Image.fromarray(np.concatenate([np.concatenate(rows[i:i + 8], 1) for i in range(0, len(rows) - 7, 8)])).save(args.out)


if __name__ == "__main__":
    main()
