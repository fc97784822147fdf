"""What every peer does to a picture and to a surface: the processor's half of a conversion. Imports no torch.

    from work import Manifest, frame, surface, glb
"""

import dataclasses
import io
import json
import math
import pathlib
import struct
import tomllib

import numpy as np
from PIL import Image

# As the server: pictures are decoded to at most this many pixels a side, and less coverage than this is no object.
DECODED_SIDE_MAX = 1024
ALPHA_THRESHOLD = 0.05


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a model's `model.toml` says of how to use it."""

    file: pathlib.Path
    side: int
    background: tuple[float, float, float]
    fill: float
    iso: float
    images_max: int
    cuda_dtype: str
    cpu_points: int
    cuda_points: int

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Manifest":
        text = tomllib.loads((folder / "model.toml").read_text())
        return cls(folder / text["file"]["name"], text["input"]["width"], tuple(text["input"]["background"]), text["input"]["fill"],
                   text["field"]["iso_level"], text["batch"]["images_max"], text["cuda"]["dtype"], text["cpu"]["points_per_pass"],
                   text["cuda"]["points_per_pass"])


def pictures(folder: pathlib.Path) -> list[bytes]:
    """The files of a folder's pictures, by name."""
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp")]


def frame(file: bytes, side: int, background: tuple[float, float, float], fill: float) -> np.ndarray:
    """A picture's file -> f32 [3, side, side], sRGB in 0..1: the object by its alpha, its longer side filling the share
    `fill` of a square of `background`. A picture without transparency is object all over."""
    picture = Image.open(io.BytesIO(file)).convert("RGBA")
    picture.thumbnail((DECODED_SIDE_MAX, DECODED_SIDE_MAX), Image.Resampling.HAMMING)
    pixels = np.asarray(picture, np.float32) / 255.0
    height, width = pixels.shape[:2]
    covered = pixels[:, :, 3] > ALPHA_THRESHOLD
    if not covered.any():
        raise ValueError("there is nothing in the picture")
    if pixels[:, :, 3].min() == 1.0:
        left, top, right, bottom = 0, 0, width, height
    else:
        columns, rows = np.flatnonzero(covered.any(0)), np.flatnonzero(covered.any(1))
        left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    crop = max(right - left, bottom - top) / fill
    x, y = (left + right - crop) / 2, (top + bottom - crop) / 2
    # The whole pixels that the crop touches, premultiplied, free where it leaves the picture.
    x0, y0, span = math.floor(x), math.floor(y), math.ceil(crop) + 2
    canvas = np.zeros((span, span, 4), np.float32)
    x1, y1, x2, y2 = max(x0, 0), max(y0, 0), min(x0 + span, width), min(y0 + span, height)
    cut = pixels[y1:y2, x1:x2]
    canvas[y1 - y0:y2 - y0, x1 - x0:x2 - x0, :3] = cut[:, :, :3] * cut[:, :, 3:]
    canvas[y1 - y0:y2 - y0, x1 - x0:x2 - x0, 3] = cut[:, :, 3]
    box = (x - x0, y - y0, x - x0 + crop, y - y0 + crop)
    red, green, blue, alpha = (np.asarray(Image.fromarray(np.ascontiguousarray(canvas[:, :, channel]))
                                          .resize((side, side), Image.Resampling.HAMMING, box=box)) for channel in range(4))
    under = 1.0 - alpha.clip(0.0, 1.0)
    return np.stack([(plane + part * under).clip(0.0, 1.0) for plane, part in zip((red, green, blue), background)])


def surface(volume: np.ndarray, iso: float, origin: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits [X, Y, Z], the first of them at `origin`, `step` apart -> positions and normals f32 [V, 3], triangles i32 [T, 3]."""
    from skimage.measure import marching_cubes

    positions, triangles, normals, _ = marching_cubes(volume, iso, gradient_direction="ascent")
    return (positions * step + origin).astype(np.float32), normals, np.ascontiguousarray(triangles, np.int32)


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB bytes -> linear light in 16 bits."""
    value = np.arange(256) / 255.0
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.round(table * 65535.0).astype(np.uint16)[srgb]


def glb(positions: np.ndarray, normals: np.ndarray, triangles: np.ndarray, colours: np.ndarray) -> bytes:
    """A mesh with sRGB colours f32 [V, 3] in 0..1 as binary glTF, centred and its longest side 1 m, as the server writes it."""
    low, high = positions.min(0), positions.max(0)
    positions = ((positions - (low + high) / 2) / (high - low).max()).astype("<f4")
    shades = np.full((len(positions), 4), 65535, "<u2")
    shades[:, :3] = linear(np.round(colours.clip(0.0, 1.0) * 255.0).astype(np.uint8))
    narrow = len(positions) <= 65535
    parts = [positions, normals.astype("<f4"), shades, triangles.astype("<u2" if narrow else "<u4")]
    pieces, views, offset = [], [], 0
    for part, target in zip(parts, (34962, 34962, 34962, 34963)):
        piece = part.tobytes()
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(piece), "target": target})
        pieces += [piece, b"\0" * (-len(piece) % 4)]
        offset += len(piece) + -len(piece) % 4
    vertices = {"count": len(positions), "type": "VEC3", "componentType": 5126}
    accessors = [{"bufferView": 0, **vertices, "min": positions.min(0).tolist(), "max": positions.max(0).tolist()},
                 {"bufferView": 1, **vertices},
                 {"bufferView": 2, "count": len(positions), "type": "VEC4", "componentType": 5123, "normalized": True},
                 {"bufferView": 3, "count": triangles.size, "type": "SCALAR", "componentType": 5123 if narrow else 5125}]
    root = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3, "material": 0}]}],
            "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.9}}],
            "accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": offset}]}
    text = json.dumps(root).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + offset, len(text), 0x4E4F534A)
    return b"".join([head, text, struct.pack("<II", offset, 0x004E4942), *pieces])
