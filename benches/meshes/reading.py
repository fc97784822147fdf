"""Reads a mesh of any of the five formats with trimesh, as one body of triangles in the frame of a scene."""

import dataclasses
import json
import pathlib
import struct
import zipfile

import numpy
import trimesh

FORMATS = ("glb", "obj", "stl", "ply", "3mf")
# Millimetres, +Z up, resting on z = 0; the others are metres, +Y up, centred.
PRINT_FORMATS = ("stl", "3mf")


@dataclasses.dataclass
class Body:
    """What a file holds, in its own units and axes."""

    format: str
    positions: numpy.ndarray  # float64 [vertices, 3], as in the file: split where normals or texture coordinates differ
    triangles: numpy.ndarray  # int64 [triangles, 3]
    normals: numpy.ndarray | None  # those of the file
    texture_coordinates: numpy.ndarray | None
    image_size: tuple[int, int] | None  # of the base colour's texture
    has_colors: bool

    def welded(self) -> trimesh.Trimesh:
        """With vertices at exactly one place made one; nothing else is mended."""
        positions, index = numpy.unique(self.positions, axis=0, return_inverse=True)
        return trimesh.Trimesh(positions, index.reshape(-1)[self.triangles], process=False, validate=False)

    def corners(self) -> numpy.ndarray:
        """The triangles' corners [triangles, 3, 3], +Y up, facing +Z, centred, with a longest side of 1."""
        corners = self.positions[self.triangles]
        if self.format in PRINT_FORMATS:
            corners = corners[..., [0, 2, 1]] * [1.0, 1.0, -1.0]
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        return (corners - (low + high) / 2) / (high - low).max()


def format_of(path: pathlib.Path) -> str:
    """An OBJ with a texture comes as a zip of the text, its material and its picture."""
    ending = path.suffix[1:].lower()
    return "obj" if ending == "zip" else ending


def unpacked(path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """The file that other programs open: a zipped OBJ's text, unpacked into `folder`; else the path itself."""
    if path.suffix.lower() != ".zip":
        return path
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    texts = sorted(folder.rglob("*.obj"))
    if len(texts) != 1:
        raise ValueError(f"{len(texts)} OBJ texts in the archive")
    return texts[0]


def whole_numbers(path: pathlib.Path) -> dict[str, float]:
    """By attribute of a GLB's only primitive: what its whole numbers are divided by, where they stand for -1 to 1 or 0 to 1.

    trimesh 5.2 takes normalized positions, normals and texture coordinates for what they are before the division.
    """
    with path.open("rb") as file:
        _, _, _, length, _ = struct.unpack("<4sIIII", file.read(20))
        document = json.loads(file.read(length))
    greatest = {5120: 127.0, 5121: 255.0, 5122: 32_767.0, 5123: 65_535.0}
    primitive = document["meshes"][0]["primitives"][0]
    accessors = {name: document["accessors"][index] for name, index in primitive["attributes"].items()}
    return {name: greatest[accessor["componentType"]] for name, accessor in accessors.items() if accessor.get("normalized")}


def corner_normals(path: pathlib.Path) -> numpy.ndarray:
    """The normals of an OBJ's triangles [triangles, 3, 3]. trimesh 5.2 keeps one for each pair of a position and a texture
    coordinate, and mixes up those of a place where the light breaks."""
    normals, corners = [], []
    with path.open() as text:
        for line in text:
            kind, *words = line.split() or [""]
            if kind == "vn":
                normals.append([float(word) for word in words])
            elif kind == "f":
                corners.append([int(word.split("/")[2]) - 1 for word in words])
    return numpy.asarray(normals)[numpy.asarray(corners)]


def read(path: pathlib.Path) -> Body:
    """The only mesh of the file, untouched: nothing merged, nothing removed.

    Raises whatever trimesh does for a file that it can't read, and ValueError for one with no mesh or several.
    """
    scene = trimesh.load_scene(path, process=False, maintain_order=True)
    if len(scene.graph.nodes_geometry) != 1:
        raise ValueError(f"{len(scene.graph.nodes_geometry)} meshes in the file")
    transform, name = scene.graph[scene.graph.nodes_geometry[0]]
    mesh = scene.geometry[name]
    # trimesh works out normals where a file brings none; what it read from the file lies in its cache already.
    normals = mesh._cache.cache.get("vertex_normals")
    visual, coordinates, image, has_colors = mesh.visual, None, None, mesh.visual.kind == "vertex"
    if visual.kind == "texture":
        coordinates, has_colors = visual.uv, "color" in visual.vertex_attributes
        image = getattr(visual.material, "baseColorTexture", None) or getattr(visual.material, "image", None)
    divisors = whole_numbers(path) if path.suffix == ".glb" else {}
    positions = numpy.asarray(mesh.vertices, numpy.float64) / divisors.get("POSITION", 1.0)
    if normals is not None:
        normals = normals / divisors.get("NORMAL", 1.0)
    if coordinates is not None and (divisor := divisors.get("TEXCOORD_0")):
        # It has turned v about, too, as 1 - v in the whole numbers' own type.
        u, v = numpy.asarray(coordinates, numpy.float64).T
        coordinates = numpy.stack([u / divisor, 1.0 - (1.0 - v) % (divisor + 1.0) / divisor], axis=1)
    triangles = numpy.asarray(mesh.faces, numpy.int64)
    if path.suffix == ".obj" and normals is not None:
        positions, normals = positions[triangles].reshape(-1, 3), corner_normals(path).reshape(-1, 3)
        coordinates = None if coordinates is None else numpy.asarray(coordinates)[triangles].reshape(-1, 2)
        triangles = numpy.arange(triangles.size).reshape(-1, 3)
    return Body(
        format=format_of(path),
        positions=trimesh.transform_points(positions, transform),
        triangles=triangles,
        normals=None if normals is None else numpy.asarray(normals, numpy.float64),
        texture_coordinates=None if coordinates is None else numpy.asarray(coordinates, numpy.float64),
        image_size=None if image is None else image.size,
        has_colors=has_colors,
    )
