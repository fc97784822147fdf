"""One step of the mesh work in Python, in a process of its own: `compare.py` starts it and reads what it prints.

    python benches/meshes/steps.py STEP --samples 128 --folder out/compare
"""

import argparse
import importlib
import json
import pathlib
import resource
import sys
import time

import numpy

import field

TRIANGLES = 20_000
TEXTURE_SIZE = 1024
GUTTER_TEXELS = 4
COLOR_SAMPLES = 128
# Parts of less than this share of the largest one's triangles are specks.
SPECK_SHARE = 0.01

Arrays = dict[str, numpy.ndarray]


def sample(_: Arrays, samples: int) -> Arrays:
    return {"grid": field.field(samples)}


def extract(given: Arrays, samples: int) -> Arrays:
    import skimage.measure
    # Inside is above 0.
    positions, triangles, normals, _ = skimage.measure.marching_cubes(given["grid"], 0.0, gradient_direction="ascent")
    scale = numpy.float32(2 / (samples - 1))
    # Grids are [z, y, x]: turned about, the triangles' sense changes.
    return mesh(positions[:, ::-1] * scale - numpy.float32(1), triangles[:, ::-1])


def clean_trimesh(given: Arrays, _: int) -> Arrays:
    import trimesh
    body = trimesh.Trimesh(given["positions"], given["triangles"], process=False)
    body.merge_vertices()
    body.update_faces(body.nondegenerate_faces())
    parts = body.split(only_watertight=False)
    largest = max(len(part.faces) for part in parts)
    kept = trimesh.util.concatenate([part for part in parts if len(part.faces) >= SPECK_SHARE * largest])
    return mesh(kept.vertices, kept.faces)


def clean_pymeshlab(given: Arrays, _: int) -> Arrays:
    meshes = meshlab(given)
    meshes.meshing_remove_duplicate_vertices()
    meshes.meshing_remove_null_faces()
    meshes.meshing_remove_connected_component_by_face_number(mincomponentsize=int(SPECK_SHARE * len(given["triangles"])))
    return from_meshlab(meshes)


def simplify_pymeshlab(given: Arrays, _: int) -> Arrays:
    meshes = meshlab(given)
    meshes.meshing_decimation_quadric_edge_collapse(targetfacenum=TRIANGLES, preservetopology=True, preservenormal=True)
    return from_meshlab(meshes)


def simplify_fast(given: Arrays, _: int) -> Arrays:
    import fast_simplification
    return mesh(*fast_simplification.simplify(given["positions"], given["triangles"], target_count=TRIANGLES))


def atlas(given: Arrays, _: int) -> Arrays:
    import xatlas
    sheets = xatlas.Atlas()
    sheets.add_mesh(given["positions"], given["triangles"])
    pack = xatlas.PackOptions()
    pack.resolution, pack.padding, pack.bilinear = TEXTURE_SIZE, GUTTER_TEXELS, True
    sheets.generate(pack_options=pack)
    origin, triangles, coordinates = sheets[0]
    if sheets.atlas_count != 1:
        print(f"{sheets.atlas_count} sheets", file=sys.stderr)
    return {**mesh(given["positions"][origin], triangles), "coordinates": coordinates.astype(numpy.float32)}


def bake(given: Arrays, _: int) -> Arrays:
    import scipy.ndimage
    size, triangles = TEXTURE_SIZE, given["triangles"]
    texels, triangle, weights = rasterized(given["coordinates"][triangles] * size, size)
    corners = given["positions"][triangles[triangle]]
    places = numpy.einsum("tc,tcd->td", weights, corners)
    at = ((places[:, ::-1] + 1) * ((COLOR_SAMPLES - 1) / 2)).T
    picture = numpy.zeros((size * size, 3), numpy.float32)
    for channel, grid in enumerate(given["colors"]):
        picture[texels, channel] = scipy.ndimage.map_coordinates(grid, at, order=1, mode="nearest")
    covered = numpy.zeros(size * size, bool)
    covered[texels] = True
    # Texels of the gutter take the nearest colour, or the seams would show.
    distances, nearest = scipy.ndimage.distance_transform_edt(~covered.reshape(size, size), return_indices=True)
    picture = picture.reshape(size, size, 3)
    spread = numpy.where((distances <= GUTTER_TEXELS)[..., None], picture[nearest[0], nearest[1]], picture)
    return {"texture": (spread * 255 + 0.5).astype(numpy.uint8), "covered": covered}


def rasterized(corners: numpy.ndarray, size: int) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Texels whose middle lies in a triangle of `corners` [triangles, 3, 2]: which, of which triangle, and their weights.

    All texels of all triangles' boxes at once: a loop over triangles would be Python's own slowness.
    """
    low = numpy.clip(numpy.floor(corners.min(axis=1) - 0.5), 0, size - 1).astype(numpy.int64)
    high = numpy.clip(numpy.ceil(corners.max(axis=1) + 0.5), 0, size - 1).astype(numpy.int64)
    wide, tall = (high - low + 1).T
    triangle = numpy.repeat(numpy.arange(len(corners)), wide * tall)
    within = numpy.arange(len(triangle)) - numpy.repeat(numpy.cumsum(wide * tall) - wide * tall, wide * tall)
    x = low[triangle, 0] + within % wide[triangle]
    y = low[triangle, 1] + within // wide[triangle]
    a, b, c = (corners[triangle, corner] for corner in range(3))
    middle = numpy.stack([x, y], axis=1) + 0.5
    area = cross(b - a, c - a)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        weights = numpy.stack([cross(c - b, middle - b), cross(a - c, middle - c), cross(b - a, middle - a)], axis=1) / area[:, None]
    inside = (weights >= 0).all(axis=1)
    return (y * size + x)[inside], triangle[inside], weights[inside].astype(numpy.float32)


def cross(a: numpy.ndarray, b: numpy.ndarray) -> numpy.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def export(format: str):
    """Writes coloured vertices and normals; how trimesh does it, each format as far as it goes."""
    def step(given: Arrays, _: int) -> Arrays:
        import trimesh
        colors = (127.5 + 127.5 * numpy.sin(8 * given["positions"])).astype(numpy.uint8)
        body = trimesh.Trimesh(given["positions"], given["triangles"], vertex_colors=colors, process=False)
        body.vertex_normals  # worked out on demand, so now
        options = {"include_normals": True} if format in ("glb", "obj") else {"vertex_normal": True} if format == "ply" else {}
        data = body.export(file_type=format, **options)
        return {"bytes": numpy.frombuffer(data.encode() if isinstance(data, str) else data, numpy.uint8)}
    return step


def mesh(positions: numpy.ndarray, triangles: numpy.ndarray) -> Arrays:
    return {"positions": numpy.ascontiguousarray(positions, numpy.float32), "triangles": numpy.ascontiguousarray(triangles, numpy.uint32)}


def meshlab(given: Arrays):
    import pymeshlab
    meshes = pymeshlab.MeshSet()
    meshes.add_mesh(pymeshlab.Mesh(given["positions"].astype(numpy.float64), given["triangles"].astype(numpy.int32)))
    return meshes


def from_meshlab(meshes) -> Arrays:
    return mesh(meshes.current_mesh().vertex_matrix(), meshes.current_mesh().face_matrix())


FORMATS = ("glb", "obj", "stl", "ply", "3mf")
# By name: what it is done with, which step's result it takes, and what it does.
STEPS = {
    "sample": ("numpy", None, sample),
    "extract": ("skimage.measure", "sample", extract),
    "clean": ("pymeshlab", "extract", clean_pymeshlab),
    "clean-trimesh": ("trimesh", "extract", clean_trimesh),
    "simplify": ("pymeshlab", "clean", simplify_pymeshlab),
    "simplify-fast": ("fast_simplification", "clean", simplify_fast),
    "atlas": ("xatlas", "simplify", atlas),
    "bake": ("scipy.ndimage", "atlas", bake),
    **{f"{format}-whole": ("trimesh", "clean", export(format)) for format in FORMATS},
    **{format: ("trimesh", "simplify", export(format)) for format in FORMATS},
}
# trimesh loads these when it first needs them, which is not the step's time.
LATE = ("networkx", "lxml.etree", "scipy.sparse.csgraph", "scipy.spatial")


def is_closed(made: Arrays) -> bool:
    """Each edge has two triangles, one each way."""
    triangles = made["triangles"].astype(numpy.int64)
    edges = numpy.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    one, other = (edges @ [len(made["positions"]), 1], edges @ [1, len(made["positions"])])
    one.sort()
    other.sort()
    return bool((numpy.diff(one) > 0).all() and (one == other).all())


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    args = parser.parse_args()
    package, source, step = STEPS[args.step]
    for name in (package, *(LATE if package == "trimesh" else ())):
        importlib.import_module(name)
    given = dict(numpy.load(args.folder / f"{source}.npz")) if source else {}
    if args.step == "bake":
        given["colors"] = field.colors(COLOR_SAMPLES)
    start, cpu = time.perf_counter(), time.process_time()
    made = step(given, args.samples)
    told = {"seconds": time.perf_counter() - start, "cpuSeconds": time.process_time() - cpu, "peakMiB": peak_mib()}
    if "triangles" in made:
        told |= {"triangles": len(made["triangles"])}
        told |= {} if args.step == "atlas" else {"closed": is_closed(made)}
    if "bytes" in made:
        told |= {"bytes": len(made["bytes"])}
    numpy.savez(args.folder / f"{args.step}.npz", **made)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
