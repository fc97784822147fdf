"""Binary PLY, as the server writes it: vertices with colours, faces as lists."""

import numpy as np

_TYPES = {"float": "<f4", "float32": "<f4", "double": "<f8", "uchar": "u1", "uint8": "u1", "int": "<i4", "int32": "<i4",
          "uint": "<u4", "uint32": "<u4", "ushort": "<u2", "short": "<i2"}


def write(path, verts, colours, faces):
    """Vertices [V, 3], sRGB colours [V, 3] in 0..1, triangles [F, 3]."""
    vertex = np.empty(len(verts), [("at", "<f4", 3), ("tint", "u1", 3)])
    vertex["at"], vertex["tint"] = verts, np.clip(np.asarray(colours) * 255, 0, 255).round()
    face = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    face["count"], face["corners"] = 3, faces
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(verts)}", *(f"property float {axis}" for axis in "xyz"),
            *(f"property uchar {name}" for name in ("red", "green", "blue")), f"element face {len(faces)}",
            "property list uchar int vertex_indices", "end_header", ""]
    with open(path, "wb") as out:
        out.write("\n".join(head).encode() + vertex.tobytes() + face.tobytes())


def read(path):
    """Vertices [V, 3], sRGB colours [V, 3] (grey where there are none) and triangles [F, 3] of a binary triangle mesh."""
    data = open(path, "rb").read()
    end = data.index(b"end_header\n") + len(b"end_header\n")
    lines = [line.split() for line in data[:end].decode().splitlines()]
    if ["format", "binary_little_endian", "1.0"] not in lines:
        raise ValueError(f"{path}: only binary little-endian PLY can be read")
    counts = {line[1]: int(line[2]) for line in lines if line[0] == "element"}
    scalars = np.dtype([(line[2], _TYPES[line[1]]) for line in lines if line[0] == "property" and line[1] != "list"])
    lists = next(line for line in lines if line[:2] == ["property", "list"])
    vertex = np.frombuffer(data, scalars, counts["vertex"], end)
    face = np.frombuffer(data, [("count", _TYPES[lists[2]]), ("corners", _TYPES[lists[3]], 3)], counts["face"], end + vertex.nbytes)
    if (face["count"] != 3).any():
        raise ValueError(f"{path}: not all faces are triangles")
    verts = np.stack([vertex[axis] for axis in "xyz"], 1).astype(np.float64)
    colours = np.stack([vertex[c] for c in ("red", "green", "blue")], 1) / 255 if "red" in scalars.names else np.full(verts.shape, 0.5)
    return verts, colours, face["corners"].astype(np.int64)
