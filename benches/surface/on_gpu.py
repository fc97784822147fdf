"""Marching cubes on a GPU with PyTorch, over a dense grid that lies there already: what extraction there would take.

    python benches/surface/on_gpu.py --samples 128,256,512

orfeas extracts on the processor, from the bricks that its coarse-to-fine search has filled. This is the other way, as well
as it can be done without kernels of one's own: cases of all cells by shifts of a bool volume, crossed edges numbered in one
index volume per axis, triangles looked up in a table. It prints the device's time for the surface (CUDA events, median) and
for the copy of vertices and triangles to pinned memory; the dense field itself, which it needs, is not in it.
"""

import argparse
import itertools
import json
import statistics

import torch

CORNERS = [(bits & 1, bits >> 1 & 1, bits >> 2 & 1) for bits in range(8)]
# An edge is its lower corner and its axis.
EDGES = [(corner, axis) for axis in range(3) for corner in range(8) if not CORNERS[corner][axis]]


def faces():
    """The corners of each of a cell's faces in a circle, all seen from outside or all from inside."""
    for axis, side in itertools.product(range(3), range(2)):
        u, v = [other for other in range(3) if other != axis]
        circle = [(0, 0), (1, 0), (1, 1), (0, 1)]
        if (axis == 1) != (side == 0):
            circle.reverse()
        for_corner = lambda a, b: side << axis | a << u | b << v
        yield [for_corner(a, b) for a, b in circle]


def edge_between(a, b):
    axis = (a ^ b).bit_length() - 1
    return EDGES.index((min(a, b), axis))


def triangles_of(case):
    """Three edges for each triangle: the contours over the faces closed to loops, the loops cut to fans."""
    following = {}
    for circle in faces():
        crossed = [
            (edge_between(a, b), case >> a & 1)
            for a, b in zip(circle, circle[1:] + circle[:1], strict=True)
            if (case >> a & 1) != (case >> b & 1)
        ]
        # Leaving the inside at one edge, the contour goes to the next crossed edge, where the inside is entered again.
        for at, (edge, leaves) in enumerate(crossed):
            if leaves:
                following[edge] = crossed[(at + 1) % len(crossed)][0]
    triangles = []
    while following:
        first, at = following.popitem()
        loop = [first]
        while at != first:
            loop.append(at)
            at = following.pop(at)
        triangles += [(loop[0], loop[i], loop[i + 1]) for i in range(1, len(loop) - 1)]
    return triangles


def tables(device):
    per_case = [triangles_of(case) for case in range(256)]
    most = max(map(len, per_case))
    edges = torch.zeros(256, most, 3, dtype=torch.long)
    for case, triangles in enumerate(per_case):
        if triangles:
            edges[case, : len(triangles)] = torch.tensor(triangles)
    counts = torch.tensor([len(triangles) for triangles in per_case])
    return edges.to(device), counts.to(device)


def extract(values, edges, counts):
    """Vertices `[V, 3]` in samples, and triangles `[T, 3]`."""
    n = values.shape[0]
    inside = values > 0
    cells = tuple(slice(0, n - 1) for _ in range(3))
    case = torch.zeros((n - 1,) * 3, dtype=torch.uint8, device=values.device)
    for bit, corner in enumerate(CORNERS):
        part = inside[tuple(slice(c, c + n - 1) for c in corner)]
        case |= part.to(torch.uint8) << bit
    active = ((case != 0) & (case != 255)).nonzero()
    case = case[tuple(active.T)].long()
    number = torch.empty((3, n, n, n), dtype=torch.int32, device=values.device)
    vertices, begun = [], 0
    for axis in range(3):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(0, n - 1), slice(1, n)
        at = (inside[tuple(low)] != inside[tuple(high)]).nonzero()
        step = torch.zeros(3, dtype=torch.long, device=values.device)
        step[axis] = 1
        start, end = values[tuple(at.T)], values[tuple((at + step).T)]
        vertices.append(at + step * (start / (start - end))[:, None])
        number[axis][tuple(at.T)] = torch.arange(begun, begun + len(at), dtype=torch.int32, device=values.device)
        begun += len(at)
    corner = torch.tensor([CORNERS[corner] for corner, _ in EDGES], device=values.device)
    axis = torch.tensor([axis for _, axis in EDGES], device=values.device)
    wanted = edges[case]
    exists = torch.arange(wanted.shape[1], device=values.device) < counts[case][:, None]
    of_cell, _ = exists.nonzero(as_tuple=True)
    wanted = wanted[exists]
    place = active[of_cell][:, None, :] + corner[wanted]
    triangles = number[axis[wanted], place[..., 0], place[..., 1], place[..., 2]]
    return torch.cat(vertices), triangles


def field(n, device):
    """The surface that the benchmark's model makes, about: a rough sphere with bumps, positive inside."""
    along = torch.linspace(-1, 1, n, device=device)
    x, y, z = torch.meshgrid(along, along, along, indexing="ij")
    bumps = 0.08 * torch.sin(9 * x) * torch.cos(8 * y) * torch.sin(7 * z)
    return 0.7 + bumps - (x * x + y * y + z * z).sqrt()


def closed(triangles):
    """Whether each side of a triangle is the side of one other, the other way round."""
    sides = torch.cat([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).long()
    span = int(sides.max()) + 1
    there, back = sides[:, 0] * span + sides[:, 1], sides[:, 1] * span + sides[:, 0]
    return bool((there.sort().values == back.sort().values).all())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", default="128,256,512")
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    edges, counts = tables(device)
    for n in map(int, options.samples.split(",")):
        values = field(n, device)
        vertices, triangles = extract(values, edges, counts)
        assert closed(triangles), "the surface has holes"
        row = {"samples": n, "vertices": len(vertices), "triangles": len(triangles)}
        if device == "cuda":
            surface, copy = [], []
            for _ in range(options.repeat):
                marks = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
                marks[0].record()
                vertices, triangles = extract(values, edges, counts)
                marks[1].record()
                kept = [part.to("cpu", non_blocking=True) for part in (vertices, triangles)]
                marks[2].record()
                torch.cuda.synchronize()
                del kept
                surface.append(marks[0].elapsed_time(marks[1]))
                copy.append(marks[1].elapsed_time(marks[2]))
            row |= {"surfaceMs": statistics.median(surface), "copyMs": statistics.median(copy)}
            row["peakBytes"] = torch.cuda.max_memory_allocated()
        print(json.dumps(row))


if __name__ == "__main__":
    main()
