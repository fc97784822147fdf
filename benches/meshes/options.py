"""Option sets for `orfeas convert`, mixed by a fixed rule, and which of them a program knows."""

import dataclasses
import json
import pathlib
import re
import subprocess

RESOLUTIONS = (64, 128, 192)
TRIANGLES = (None, 2_000, 20_000)
TEXTURES = ("vertex-color", "none", "baked")
SIZES_MM = (None, 80.0, 250.0)
# What each texture is called on the command line; the first spelling whose options the program has is taken.
TEXTURE_ARGUMENTS = {
    "vertex-color": [["--texture", "vertex-color"], []],
    "none": [["--texture", "none"], ["--no-colors"]],
    "baked": [["--texture", "baked", "--texture-size", "{size}"], ["--texture", "baked"]],
}
QUANTIZE_ARGUMENTS = ["--quantize"]
TEXTURE_SIZE = 1024
# Of the conversions a mixed set gets ten parts, an extra one as many as it says.
WEIGHT = 10
# What the mix leaves out since it takes long: fine meshes, another size of texture, opaque pictures taken as a whole.
EXTRA = [
    {"resolution": 256, "weight": 2},
    {"resolution": 256, "triangles": 50_000, "texture": "baked", "textureSize": 2048, "sizeMm": 80.0, "quantize": True, "weight": 2},
    {"resolution": 512, "sizeMm": 120.0, "weight": 1, "arguments": ["--remove-background", "false"]},
]


@dataclasses.dataclass(frozen=True)
class OptionSet:
    """What is asked of some conversions."""

    name: str
    resolution: int
    triangles: int | None
    size_mm: float | None
    texture: str
    quantize: bool
    weight: int
    arguments: tuple[str, ...]


def mixed() -> list[dict]:
    """Eighteen sets: of resolution, triangles, texture and size every value meets every value of the others twice, once with
    quantized positions and once without (two of Taguchi's L9 on top of each other)."""
    return [{"resolution": RESOLUTIONS[row], "triangles": TRIANGLES[column], "texture": TEXTURES[(row + column) % 3],
             "sizeMm": SIZES_MM[(row + 2 * column) % 3], "quantize": quantize}
            for quantize in (False, True) for row in range(3) for column in range(3)]


def known(program: pathlib.Path, file: pathlib.Path | None) -> tuple[list[OptionSet], list[str]]:
    """The sets to use (the mixed ones and the extra ones, or those of a JSON file), without what the program can't do, and
    what that was.

    A file holds a list of objects like those of `mixed` and `EXTRA`; `arguments` in one is handed on as it is.
    """
    help_text = subprocess.run([program, "convert", "--help"], check=True, capture_output=True, text=True).stdout
    flags = set(re.findall(r"--[a-z][a-z-]*", help_text))
    sets, missing = [], set()
    for number, wanted in enumerate(json.loads(file.read_text()) if file else mixed() + EXTRA):
        sets.append(option_set(number, wanted, flags, missing))
    return sets, sorted(missing)


def option_set(number: int, wanted: dict, flags: set[str], missing: set[str]) -> OptionSet:
    """One set in the program's words; what it has no word for is left out and noted in `missing`."""
    resolution, triangles, size_mm = wanted.get("resolution", 128), wanted.get("triangles"), wanted.get("sizeMm")
    texture, quantize = wanted.get("texture", "vertex-color"), wanted.get("quantize", False)
    arguments = ["--resolution", str(resolution)]
    if triangles:
        arguments += ["--triangles", str(triangles)]
    if size_mm:
        arguments += ["--size-mm", f"{size_mm:g}"]
    spelling = first_known(TEXTURE_ARGUMENTS[texture], flags)
    if spelling is None:
        missing.add(f"texture {texture}")
        texture = "vertex-color"
    arguments += [word.format(size=wanted.get("textureSize", TEXTURE_SIZE)) for word in spelling or []]
    if quantize and first_known([QUANTIZE_ARGUMENTS], flags) is None:
        missing.add("quantize")
        quantize = False
    arguments += QUANTIZE_ARGUMENTS if quantize else []
    extra = wanted.get("arguments", [])
    if first_known([extra], flags) is None:
        missing.add(" ".join(extra))
        extra = []
    name = f"{number:02}-r{resolution}-t{triangles or 'all'}-s{size_mm or 'none'}-{texture}{'-quantized' if quantize else ''}"
    return OptionSet(name, resolution, triangles, size_mm, texture, quantize, wanted.get("weight", WEIGHT), (*arguments, *extra))


def first_known(spellings: list[list[str]], flags: set[str]) -> list[str] | None:
    """The first whose options are all among `flags`."""
    return next((words for words in spellings if all(word in flags for word in words if word.startswith("--"))), None)
