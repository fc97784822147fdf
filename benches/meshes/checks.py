"""What must hold of a file. Each check yields reasons why it doesn't; none means that all is well."""

import collections.abc
import json
import pathlib
import re
import subprocess
import zipfile

import numpy
import scipy.spatial

import options
import reading

# Of the longest side: a file says how large a thing will be, so it must be so.
EXTENT_TOLERANCE = 0.005
# Coordinates are rounded to 32 bits around a centre, in 3MF to a nanometre.
ROUNDING = 2e-6
# Half a step of 16 bits over the longest side, each way.
QUANTIZED_ROUNDING = 2 / 65_535
PRINT_SIZE_MM = 100.0
MODEL_PART = "3D/3dmodel.model"
REPAIRS = ("edges_fixed", "degenerate_facets", "facets_removed", "facets_added", "facets_reversed", "backwards_edges")

Reasons = collections.abc.Iterator[str]


def geometry(body: reading.Body, wanted: options.OptionSet) -> Reasons:
    """A closed surface, its outside outside, of the size and at the place asked for."""
    if not numpy.isfinite(body.positions).all():
        yield "a position is not finite"
        return
    if len(body.triangles) == 0 or body.triangles.max() >= len(body.positions) or body.triangles.min() < 0:
        yield "no triangles, or one names a vertex that there is not"
        return
    mesh = body.welded()
    if len(used := numpy.unique(mesh.faces)) != len(mesh.vertices):
        yield f"{len(mesh.vertices) - len(used)} vertices belong to no triangle"
    if folded := int((mesh.faces == numpy.roll(mesh.faces, 1, axis=1)).any(axis=1).sum()):
        yield f"{folded} triangles have two corners at one place"
    if not mesh.is_watertight:
        uses = numpy.unique(numpy.sort(mesh.edges, axis=1), axis=0, return_counts=True)[1]
        yield f"not watertight: {int((uses == 1).sum())} open edges, {int((uses > 2).sum())} with more than two triangles"
    elif not mesh.is_winding_consistent:
        yield "triangles are not wound alike"
    elif not mesh.volume > 0:
        yield f"the volume is {mesh.volume:.3g}"
    yield from placement(body, wanted)
    yield from attributes(body, wanted)


def placement(body: reading.Body, wanted: options.OptionSet) -> Reasons:
    """Metres and centred, or millimetres and resting on the plate."""
    is_print = body.format in reading.PRINT_FORMATS
    expected = (wanted.size_mm or PRINT_SIZE_MM) if is_print else (wanted.size_mm or 1000.0) / 1000.0
    low, high = body.positions.min(axis=0), body.positions.max(axis=0)
    longest = float((high - low).max())
    if abs(longest - expected) > EXTENT_TOLERANCE * expected:
        yield f"the longest side is {longest:.6g} instead of {expected:g}"
    middle = (low + high) / 2
    if is_print:
        if abs(low[2]) > 1e-4 * expected:
            yield f"it does not rest on z = 0 but {low[2]:.3g}"
        middle = middle[:2]
    if numpy.abs(middle).max() > EXTENT_TOLERANCE * expected:
        yield f"it is not centred: {middle.round(6).tolist()}"


def attributes(body: reading.Body, wanted: options.OptionSet) -> Reasons:
    """Normals of length one that face as the triangles do; colours or a texture where the format takes them."""
    if body.format in reading.PRINT_FORMATS:
        return
    if body.normals is None:
        yield "no normals"
    elif len(body.normals) != len(body.positions) or numpy.abs(numpy.linalg.norm(body.normals, axis=1) - 1).max() > 0.02:
        yield "a normal's length is not 1"
    else:
        a, b, c = (body.positions[body.triangles[:, corner]] for corner in range(3))
        faces = numpy.cross(b - a, c - a)
        facing = numpy.einsum("ij,ij->i", faces, body.normals[body.triangles].sum(axis=1)) > 0
        areas = numpy.linalg.norm(faces, axis=1)
        if (share := areas[~facing].sum() / areas.sum()) > 0.05:
            yield f"normals face inwards on {share:.0%} of the surface"
    # PLY has no material; there the texture's colours stay with the vertices.
    textured = wanted.texture == "baked" and body.format != "ply"
    if textured and (body.texture_coordinates is None or body.image_size is None):
        yield "no texture"
    elif textured and not (numpy.isfinite(body.texture_coordinates).all()
                           and body.texture_coordinates.min() >= 0 and body.texture_coordinates.max() <= 1):
        yield "texture coordinates outside of 0..1"
    if wanted.texture == "vertex-color" and not body.has_colors:
        yield "no vertex colours"
    if wanted.texture == "none" and (body.has_colors or body.image_size is not None):
        yield "colours where none were asked for"


def same(body: reading.Body, other: reading.Body, wanted: options.OptionSet) -> Reasons:
    """Both hold the same triangles, wound alike, whatever their order and whichever corner comes first."""
    if len(body.triangles) != len(other.triangles):
        yield f"{len(body.triangles)} triangles, but {len(other.triangles)} in {other.format}"
        return
    rounding = QUANTIZED_ROUNDING if wanted.quantize else ROUNDING
    ours, theirs = body.corners(), other.corners()
    if numpy.abs(ours - theirs).max() <= rounding:
        return
    for a, b in ((ours, theirs), (theirs, ours)):
        turned = numpy.concatenate([numpy.roll(b, turn, axis=1) for turn in range(3)]).reshape(-1, 9)
        distances, _ = scipy.spatial.cKDTree(turned).query(a.reshape(-1, 9), p=numpy.inf)
        if (strangers := int((distances > rounding).sum())) > 0:
            yield f"{strangers} triangles differ from {other.format} by up to {distances.max():.2g} of the longest side"
            return


def package(file: pathlib.Path) -> Reasons:
    """A 3MF's model lies where Cura opens it, which does not ask the relationships and minds case; so do others."""
    names = zipfile.ZipFile(file).namelist()
    if MODEL_PART not in names:
        yield f"Cura opens {MODEL_PART}, but there is {', '.join(name for name in names if name.endswith('.model'))}"


def khronos(files: list[pathlib.Path], node: pathlib.Path, script: pathlib.Path) -> dict[pathlib.Path, list[str]]:
    """What the Khronos validator finds: errors and warnings, by file."""
    if not files:
        return {}
    told = subprocess.run([node, script, *files], capture_output=True, text=True)
    reports = {pathlib.Path(report["file"]): report for report in map(json.loads, told.stdout.splitlines())}
    found = {}
    for file in files:
        report = reports.get(file)
        if report is None:
            found[file] = [f"the validator said nothing: {told.stderr.strip()[-300:]}"]
        elif report["errors"] or report["warnings"]:
            messages = sorted({f"{message.get('code', '')} {message['message']}" for message in report["messages"] if message.get("severity", 0) <= 1})
            found[file] = [f"validator: {report['errors']} errors, {report['warnings']} warnings: {'; '.join(messages)[:500]}"]
        else:
            found[file] = []
    return found


def slicer_import(file: pathlib.Path, slicer: str, expected: int) -> Reasons:
    """What PrusaSlicer says of a file that it opened: a manifold of that many triangles, with nothing mended."""
    told = subprocess.run([slicer, "--info", file], capture_output=True, text=True)
    said = dict(re.findall(r"^(\w+) = *(.*?) *$", told.stdout, re.MULTILINE))
    if told.returncode != 0 or "manifold" not in said:
        yield f"slicer: {(told.stderr or told.stdout).strip()[-300:] or told.returncode}"
        return
    if said["manifold"] != "yes":
        yield f"slicer: manifold = {said['manifold']}, open_edges = {said.get('open_edges', '?')}"
    if mended := [f"{name} = {said[name]}" for name in REPAIRS if said.get(name, "0") != "0"]:
        yield f"slicer: {', '.join(mended)}"
    if int(said.get("number_of_facets", -1)) != expected:
        yield f"slicer: {said.get('number_of_facets')} triangles of {expected}"


def slicing(file: pathlib.Path, slicer: str, code: pathlib.Path) -> Reasons:
    """G-code comes of it."""
    told = subprocess.run([slicer, "--export-gcode", "--support-material", "--output", code, file], capture_output=True, text=True)
    if told.returncode != 0 or not code.exists():
        yield f"no G-code: {(told.stderr or told.stdout).strip()[-300:]}"
        return
    if not re.search(r"^G1 .*E", code.read_text(), re.MULTILINE):
        yield "the G-code extrudes nothing"
