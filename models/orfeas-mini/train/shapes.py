"""Procedural models: smooth and everyday forms that low-poly packs lack, as triangle meshes.

    python shapes.py --count N     prints what the families give

Every family draws from a numpy generator and returns coloured parts; `make_meshes` normalises them as the packs are.
Parts may overlap: depth carving sees the union.
"""

import argparse

import numpy as np

import data


def _grid_faces(rows, columns, close):
    """Triangles of a rows x columns vertex grid, columns wrapping round when `close`."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if close else columns - 1), indexing="ij")
    a, b = r * columns + c, r * columns + (c + 1) % columns
    quads = np.stack([a, b, b + columns, a, b + columns, a + columns], -1)
    return quads.reshape(-1, 3)


def superellipsoid(size, e=1.0, f=1.0, rows=13, columns=22):
    """Half-axes `size`; exponents 1 give an ellipsoid, towards 0 a box, 2 an octahedron."""
    power = lambda x, k: np.sign(x) * np.abs(x) ** k
    v, u = np.meshgrid(np.linspace(-np.pi / 2, np.pi / 2, rows), np.arange(columns) * 2 * np.pi / columns, indexing="ij")
    p = np.stack([power(np.cos(v), e) * power(np.cos(u), f), power(np.sin(v), e), power(np.cos(v), e) * power(np.sin(u), f)], -1)
    return p.reshape(-1, 3) * size, _grid_faces(rows, columns, True)[:, ::-1]


def lathe(profile, columns=28, lobes=0, depth=0.0):
    """Turns (radius, height) pairs about +Y; `lobes` of relative `depth` flute it."""
    profile = np.asarray(profile, float)
    u = np.arange(columns) * 2 * np.pi / columns
    flute = 1 + depth * np.cos(lobes * u)
    p = np.stack([profile[:, :1] * flute * np.cos(u), np.repeat(profile[:, 1:], columns, 1), profile[:, :1] * flute * np.sin(u)], -1)
    return p.reshape(-1, 3), _grid_faces(len(profile), columns, True)[:, ::-1]


def tube(path, radius, columns=10):
    """A round tube along `path` [K, 3]; `radius` a number or one a point. Its ends are closed."""
    path = np.asarray(path, float)
    radius = np.broadcast_to(np.asarray(radius, float), len(path))
    t = np.gradient(path, axis=0)
    t /= np.maximum(np.linalg.norm(t, axis=1, keepdims=True), 1e-9)
    helper = np.where(np.abs(t @ [0, 0, 1.0])[:, None] > 0.9, [[1.0, 0, 0]], [[0, 0, 1.0]])
    n = np.cross(t, helper)
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    b = np.cross(t, n)
    path, radius = np.concatenate([path[:1], path, path[-1:]]), np.concatenate([[1e-4], radius, [1e-4]])
    n, b = np.concatenate([n[:1], n, n[-1:]]), np.concatenate([b[:1], b, b[-1:]])
    u = np.arange(columns) * 2 * np.pi / columns
    p = path[:, None] + radius[:, None, None] * (n[:, None] * np.cos(u)[:, None] + b[:, None] * np.sin(u)[:, None])
    return p.reshape(-1, 3), _grid_faces(len(path), columns, True)


def box(size):
    """A box with half-sides `size`."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float) * size
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    return corners, np.array(faces)


def prism(outline, half):
    """A star-shaped outline [K, 2] in x, y extruded to z = ±half."""
    k = len(outline)
    front, back = np.c_[outline, np.full(k, half)], np.c_[outline, np.full(k, -half)]
    centre = outline.mean(0)
    verts = np.concatenate([front, back, [[*centre, half], [*centre, -half]]])
    i = np.arange(k)
    j = (i + 1) % k
    faces = np.concatenate([np.c_[i, j, np.full(k, 2 * k)], np.c_[j + k, i + k, np.full(k, 2 * k + 1)],
                            np.c_[i, i + k, j + k], np.c_[i, j + k, j]])
    return verts, faces


def torus(major, minor, columns=28, rows=12, arc=2 * np.pi):
    """A ring about +Z, or an arc of one."""
    a = np.linspace(0, arc, columns)
    return tube(np.stack([major * np.cos(a), major * np.sin(a), 0 * a], 1), minor, rows)


def turned(part, x=0.0, y=0.0, z=0.0):
    """The part turned about x, then y, then z (radians)."""
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return part[0] @ (rz @ ry @ rx).T, part[1]


def moved(part, x=0.0, y=0.0, z=0.0):
    """The part moved."""
    return part[0] + [x, y, z], part[1]


def _colour(r):
    """A colour, often muted, sometimes wood, metal or white."""
    hue, kind = r.random(), r.random()
    if kind < 0.15:
        return np.full(3, r.uniform(0.15, 0.95))
    if kind < 0.3:
        return np.array([0.55, 0.36, 0.2]) * r.uniform(0.6, 1.5)
    rgb = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    saturation, value = r.uniform(0.2, 1), r.uniform(0.35, 1)
    return value * (1 - saturation + saturation * rgb)


def _smooth_profile(r, points, low, high, closed=True):
    heights = np.linspace(-1, 1, points * 4)
    knots = r.uniform(low, high, points)
    radius = np.interp(heights, np.linspace(-1, 1, points), knots)
    kernel = np.array([1, 2, 3, 2, 1]) / 9
    radius = np.convolve(np.pad(radius, 2, mode="edge"), kernel, "valid") if r.random() < 0.7 else radius
    profile = np.c_[radius, heights]
    return np.concatenate([[[1e-4, -1]], profile, [[1e-4, 1]]]) if closed else profile


def _vessel(r):
    """Vase, bottle, cup or bowl: an outer wall, a rim and an inner wall."""
    outer = _smooth_profile(r, r.integers(3, 7), 0.2, r.uniform(0.4, 1.0), closed=False)
    wall = r.uniform(0.03, 0.09)
    floor = r.uniform(-0.9, 0.7)
    inner = outer[outer[:, 1] > floor][::-1].copy()
    inner[:, 0] = np.maximum(inner[:, 0] - wall, 0.02)
    profile = np.concatenate([[[1e-4, -1]], outer, inner, [[1e-4, max(floor, inner[-1, 1])]]])
    colour = _colour(r)
    parts = [(lathe(profile, lobes=r.integers(5, 12), depth=r.choice([0, 0, 0.06])), colour)]
    if r.random() < 0.45:
        edge = np.interp(0.0, outer[:, 1], outer[:, 0])
        handle = turned(torus(r.uniform(0.3, 0.55), r.uniform(0.05, 0.1), arc=r.uniform(3.1, 4.0)), z=-np.pi / 2 - 0.2)
        parts.append((moved(handle, edge * 0.95, r.uniform(-0.1, 0.2)), colour))
    return parts


def _teapot(r):
    body, trim = _colour(r), _colour(r)
    h = r.uniform(0.55, 0.9)
    t = np.linspace(0, 1, 8)[:, None]
    spout = np.array([0.75, -0.2, 0]) * (1 - t) ** 2 + np.array([1.3, -0.1, 0]) * 2 * t * (1 - t) + np.array([1.45, r.uniform(0.3, 0.7), 0]) * t ** 2
    return [(superellipsoid([0.9, h, 0.9], r.uniform(0.7, 1.1)), body), (tube(spout, np.linspace(0.24, 0.1, 8)), body),
            (moved(turned(torus(0.5, 0.08, arc=np.pi * 1.15), z=np.pi / 2 - 0.2), -0.8, 0.05), trim),
            (moved(superellipsoid([0.5, 0.12, 0.5]), 0, h * 0.95), trim), (moved(superellipsoid([0.12] * 3), 0, h + 0.15), trim)]


def _seat(r):
    """Chair, stool, bench or table."""
    wood, cloth = _colour(r), _colour(r)
    w, d, leg, thick = r.uniform(0.4, 1.1), r.uniform(0.4, 0.8), r.uniform(0.4, 1.0), r.uniform(0.03, 0.1)
    radius, splay = r.uniform(0.03, 0.08), r.uniform(-0.05, 0.18)
    top = superellipsoid([w, thick, d], 0.3, r.choice([0.15, 0.4, 1.0])) if r.random() < 0.5 else box([w, thick, d])
    parts = [(top, cloth)]
    if r.random() < 0.15:
        parts += [(moved(lathe([[1e-4, 0], [0.5, 0], [0.4, 0.08], [radius * 1.5, 0.15], [radius * 1.5, leg], [1e-4, leg]]), 0, -leg - thick), wood)]
    else:
        for sx in (-1, 1):
            for sz in (-1, 1):
                foot = np.array([sx * (w * 0.85 + splay), -leg - thick, sz * (d * 0.85 + splay)])
                head = np.array([sx * w * 0.85, 0, sz * d * 0.85])
                round_leg = tube([foot, (foot + head) / 2, head], radius, 8)
                square = moved(box([radius, leg / 2, radius]), sx * w * 0.85, -leg / 2 - thick, sz * d * 0.85)
                parts.append((round_leg if r.random() < 0.5 else square, wood))
    if r.random() < 0.6:
        height = r.uniform(0.4, 1.1)
        if r.random() < 0.5:
            parts.append((moved(turned(box([w, height / 2, thick]), x=-r.uniform(0, 0.25)), 0, height / 2, -d * 0.95), cloth))
        else:
            for x in np.linspace(-w * 0.9, w * 0.9, r.integers(2, 7)):
                parts.append((tube([[x, 0, -d * 0.95], [x, height / 2, -d], [x, height, -d]], radius, 8), wood))
            parts.append((moved(box([w, 0.1, thick]), 0, height, -d), wood))
        if r.random() < 0.4:
            for sx in (-1, 1):
                parts.append((moved(box([radius, 0.03, d * 0.9]), sx * w, 0.35, 0), wood))
                parts.append((moved(box([radius, 0.18, radius]), sx * w, 0.17, d * 0.8), wood))
    return parts


def _vehicle(r):
    body, glass, tyre = _colour(r), np.array([0.15, 0.2, 0.3]), np.full(3, 0.12)
    l, w, h = r.uniform(0.8, 1.2), r.uniform(0.35, 0.55), r.uniform(0.15, 0.3)
    cab, back = r.uniform(0.3, 0.6), r.uniform(-0.4, 0.3)
    soft = lambda s: superellipsoid(s, r.uniform(0.2, 0.5), 0.25)
    parts = [(soft([w, h, l]), body), (moved(soft([w * 0.9, r.uniform(0.18, 0.35), cab]), 0, h * 1.3, back), body),
             (moved(box([w * 0.82, 0.12, cab * 0.97]), 0, h * 1.5, back), glass)]
    if r.random() < 0.4:
        parts.append((moved(box([w, r.uniform(0.2, 0.5), l * 0.5]), 0, h + 0.2, -l * 0.45), _colour(r)))
    radius = r.uniform(0.15, 0.27)
    for sx in (-1, 1):
        for z in (-0.6 * l, 0.6 * l):
            wheel = turned(lathe([[1e-4, -0.08], [radius, -0.08], [radius, 0.08], [1e-4, 0.08]], 18), z=np.pi / 2)
            parts.append((moved(wheel, sx * w * 0.95, -h, z), tyre))
    return parts


def _quadruped(r):
    fur, other = _colour(r), _colour(r)
    l, h, w = r.uniform(0.5, 0.9), r.uniform(0.22, 0.4), r.uniform(0.2, 0.35)
    leg, neck, tilt, head = r.uniform(0.3, 0.8), r.uniform(0.2, 0.8), r.uniform(0.2, 1.2), r.uniform(0.17, 0.32)
    top = np.array([0, h * 0.5 + neck * np.sin(tilt), l * 0.8 + neck * np.cos(tilt)])
    parts = [(superellipsoid([w, h, l], r.uniform(0.6, 1), r.uniform(0.6, 1)), fur), (tube([[0, 0, l * 0.7], top * [0, 0.6, 0.9], top], [w * 0.7, w * 0.5, w * 0.45]), fur),
             (moved(superellipsoid([head * 0.8, head * 0.8, head * 1.1]), *top), fur), (moved(superellipsoid([head * 0.4] * 3), *(top + [0, -0.05, head])), other)]
    radius = r.uniform(0.05, 0.13)
    for sx in (-1, 1):
        for z in (-0.7 * l, 0.7 * l):
            parts.append((tube([[sx * w * 0.6, -h * 0.3, z], [sx * w * 0.65, -h - leg * 0.5, z], [sx * w * 0.65, -h - leg, z + 0.03]], [radius * 1.4, radius, radius * 1.1], 8), fur))
        ear = r.uniform(0.08, 0.25)
        parts.append((moved(superellipsoid([0.06, ear, 0.05], 1.2), *(top + [sx * head * 0.5, head * 0.8 + ear * 0.5, 0])), other))
    tail = r.uniform(0.2, 0.7)
    parts.append((tube([[0, h * 0.4, -l * 0.9], [0, h * 0.5, -l - tail * 0.6], [0, r.uniform(-0.3, 0.8), -l - tail]], [0.07, 0.05, 0.03], 8), fur))
    return parts


def _figure(r):
    skin, shirt, legs = np.array([0.9, 0.7, 0.55]) * r.uniform(0.5, 1.05), _colour(r), _colour(r)
    head, w, t = r.uniform(0.18, 0.42), r.uniform(0.2, 0.35), r.uniform(0.3, 0.45)
    soft = r.choice([0.25, 0.6, 1.0])
    parts = [(superellipsoid([w, t, w * 0.65], soft, soft), shirt), (moved(superellipsoid([head, head * 1.05, head * 0.95], soft, soft), 0, t + head), skin)]
    if r.random() < 0.6:
        parts.append((moved(superellipsoid([head * 1.06, head * 0.6, head * 1.02], 0.8), 0, t + head * 1.55, -0.04), _colour(r)))
    lift, arm, thick, stride = r.uniform(-0.2, 1.5), r.uniform(0.4, 0.65), r.uniform(0.07, 0.12), r.uniform(0, 0.25)
    for sx in (-1, 1):
        hand = [sx * (w + arm * np.sin(lift)), t * 0.75 - arm * np.cos(lift), r.uniform(0, 0.25)]
        parts.append((tube([[sx * w * 0.9, t * 0.75, 0], (np.array([sx * w * 0.9, t * 0.75, 0]) + hand) / 2, hand], thick, 8), shirt))
        parts.append((moved(superellipsoid([thick * 1.15] * 3), *hand), skin))
        parts.append((tube([[sx * w * 0.5, -t * 0.7, 0], [sx * w * 0.5, -t - 0.25, sx * stride / 2], [sx * w * 0.55, -t - 0.5, sx * stride]], thick * 1.2, 8), legs))
        parts.append((moved(superellipsoid([thick * 1.2, 0.07, thick * 1.9], 0.6), sx * w * 0.55, -t - 0.5, sx * stride + 0.06), _colour(r)))
    return parts


def _plant(r):
    """Tree, mushroom, cactus, lamp: a stem and what it carries."""
    stem, crown = np.array([0.45, 0.3, 0.2]) * r.uniform(0.6, 1.6), _colour(r)
    h = r.uniform(0.4, 1.1)
    bend = r.uniform(-0.2, 0.2)
    radius = r.uniform(0.04, 0.2)
    parts = [(tube([[0, -h, 0], [bend, 0, 0], [bend, h, 0]], [radius * 1.3, radius, radius * 0.8]), stem)]
    kind = r.integers(4)
    if kind == 0:
        for _ in range(r.integers(1, 6)):
            s = r.uniform(0.25, 0.6)
            parts.append((moved(superellipsoid(s * r.uniform(0.7, 1.2, 3), r.uniform(0.7, 1.2), 1, 7, 10), bend + r.uniform(-0.4, 0.4), h + r.uniform(-0.2, 0.5), r.uniform(-0.4, 0.4)), crown * r.uniform(0.8, 1.1)))
    elif kind == 1:
        for k in range(r.integers(1, 5)):
            s = 0.7 - 0.14 * k
            parts.append((moved(lathe([[1e-4, -0.05], [s, 0], [s * 0.9, 0.06], [1e-4, r.uniform(0.5, 0.9)]], r.choice([6, 9, 24])), bend, h * 0.3 + 0.35 * k), crown))
    elif kind == 2:
        s = r.uniform(0.4, 0.9)
        cap = [[1e-4, -0.02], [s * 0.9, -0.06], [s, 0], *[[s * np.cos(a), s * r.uniform(0.6, 1) * np.sin(a)] for a in (0.4, 0.8, 1.2)], [1e-4, s]]
        parts.append((moved(lathe(cap), bend, h * 0.9), crown))
    else:
        s = r.uniform(0.35, 0.6)
        parts.append((moved(lathe([[s, -0.35], [s * 0.6, 0.35], [s * 0.55, 0.35], [s * 0.95, -0.35]]), bend, h), crown))
        parts.append((moved(lathe([[1e-4, 0], [s * 0.9, 0], [s * 0.8, 0.08], [1e-4, 0.1]]), 0, -h), stem))
    return parts


def _building(r):
    wall, roof, trim = _colour(r), _colour(r), _colour(r)
    w, h, d = r.uniform(0.4, 1, 3)
    parts = [(box([w, h, d]), wall)]
    over = r.uniform(0, 0.15)
    rise = r.uniform(0.2, 0.8)
    if r.random() < 0.6:
        parts.append((moved(prism(np.array([[-w - over, 0], [w + over, 0], [0, rise]]), d + over), 0, h), roof))
    else:
        parts.append((moved(turned(lathe([[1e-4, 0], [w * 1.45 + over, 0], [1e-4, rise]], r.choice([4, 8, 24])), y=np.pi / 4), 0, h), roof))
    if r.random() < 0.5:
        parts.append((moved(box([0.09, 0.3, 0.09]), w * 0.5, h + rise * 0.6, r.uniform(-0.5, 0.5) * d), trim))
    parts.append((moved(box([0.14, 0.25, 0.03]), r.uniform(-0.5, 0.5) * w, -h + 0.25, d), trim))
    for x in np.linspace(-0.6, 0.6, r.integers(1, 4)):
        parts.append((moved(box([0.1, 0.12, 0.03]), x * w, h * 0.35, d), np.array([0.3, 0.45, 0.6])))
    return parts


def _stack(r):
    """Layers on one another: burgers, cakes, piles of books, towers."""
    parts, y, s = [], 0.0, r.uniform(0.6, 1)
    soft, f = r.uniform(0.15, 0.9), r.choice([0.15, 1.0])
    for _ in range(r.integers(2, 7)):
        half, w = r.uniform(0.06, 0.3), s * r.uniform(0.8, 1.1)
        y += half
        parts.append((moved(turned(superellipsoid([w, half, w * r.uniform(0.8, 1)], soft, f), y=r.uniform(-0.2, 0.2)), 0, y), _colour(r)))
        y += half * 0.85
        s *= r.uniform(0.75, 1)
    return parts


def _mix(r):
    """Random primitives fused into one thing, sometimes mirrored."""
    parts = []
    mirror = r.random() < 0.5
    for _ in range(r.integers(1, 7)):
        size = r.uniform(0.12, 0.7, 3)
        kind = r.integers(6)
        if kind <= 1:
            part = superellipsoid(size, r.choice([0.2, 0.5, 1, 1.6]), r.choice([0.2, 0.5, 1, 1.6]))
        elif kind == 2:
            part = box(size)
        elif kind == 3:
            part = lathe(_smooth_profile(r, r.integers(2, 6), 0.1, 0.6) * [size[0] * 1.5, size[1]], r.choice([5, 8, 24]))
        elif kind == 4:
            part = torus(size[0], size[1] * 0.4, arc=r.uniform(2, 2 * np.pi))
        else:
            n = r.integers(3, 9)
            angle = np.arange(2 * n) * np.pi / n
            reach = np.where(np.arange(2 * n) % 2, r.uniform(0.4, 1), 1.0) * size[0]
            part = prism(np.c_[reach * np.cos(angle), reach * np.sin(angle)], size[2] * 0.5)
        x, y, z = r.normal(0, 0.35, 3)
        part = moved(turned(part, *(r.uniform(-np.pi, np.pi, 3) if r.random() < 0.4 else r.choice([0, np.pi / 2], 3))), x, y, z)
        colour = _colour(r)
        parts.append((part, colour))
        if mirror:
            parts.append(((part[0] * [-1, 1, 1], part[1][:, ::-1]), colour))
    return parts


FAMILIES = {"vessel": (_vessel, 3), "teapot": (_teapot, 0.7), "seat": (_seat, 3), "vehicle": (_vehicle, 1.5), "quadruped": (_quadruped, 2),
            "figure": (_figure, 2), "plant": (_plant, 1.5), "building": (_building, 1), "stack": (_stack, 1.2), "mix": (_mix, 4)}


def make_model(r, family):
    """One coloured mesh of a family, normalised: vertices, colours, faces."""
    verts, colours, faces, base = [], [], [], 0
    for (v, f), colour in FAMILIES[family][0](r):
        verts.append(v)
        faces.append(np.asarray(f) + base)
        colours.append(np.broadcast_to(np.clip(colour, 0, 1), v.shape))
        base += len(v)
    v = np.concatenate(verts)
    lo, hi = v.min(0), v.max(0)
    v = (v - (lo + hi) / 2) * (1.8 / (hi - lo).max())
    f = np.concatenate(faces)
    a, b, c = v[f[:, 0]], v[f[:, 1]], v[f[:, 2]]
    return v, np.concatenate(colours), f[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-7]


def make_meshes(count, seed):
    """`count` procedural models as `data.Meshes`, the same for the same seed."""
    names = list(FAMILIES)
    weights = np.array([FAMILIES[n][1] for n in names])
    parts, records = [], []
    for i in range(count):
        r = np.random.default_rng([seed, i])
        family = names[r.choice(len(names), p=weights / weights.sum())]
        parts.append(make_model(r, family))
        records.append({"id": f"p{i:05d}", "name": family, "category": f"procedural:{family}", "pack": "procedural", "split": "train"})
    return data.join(parts, records)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    meshes = make_meshes(parser.parse_args().count, seed=0)
    faces = np.diff(meshes.f_off)
    print(f"{len(faces)} models, {faces.mean():.0f} triangles on average, at most {faces.max()}")


if __name__ == "__main__":
    main()
