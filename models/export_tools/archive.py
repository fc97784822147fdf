"""The two files of a model's folder: a TorchScript archive and its manifest."""

import hashlib
import pathlib
import re
import tempfile

import torch

# The server asks the same of a model's name.
NAME = re.compile(r"[a-z0-9-]{1,64}")


def without_paths(source, target):
    """Copies a TorchScript archive without its debug records, which hold the exporter's file paths."""
    reader = torch._C.PyTorchFileReader(str(source))
    writer = torch._C.PyTorchFileWriter(str(target))
    # The writer adds these by itself at the end.
    written_last = (".data/serialization_id", "version", "byteorder")
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in written_last:
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    # Not every release of PyTorch lists the record of the version; what torch.jit.save writes has been 10 for years.
    writer.set_min_version(int(reader.get_record("version").strip()) if reader.has_record("version") else 10)
    writer.write_end_of_file()


def sha256_of(path):
    """The file's hash as lower-case hex, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_archive(module, path, storage):
    """Compiles the module and writes it with weights in `storage`, a torch dtype. The module is changed."""
    module = module.eval().to(storage)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    scripted = torch.jit.script(module)
    # Beside the target, for a temporary folder may be in memory, and these files are large.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        raw = pathlib.Path(folder) / "model.pt"
        scripted.save(str(raw))
        without_paths(raw, path)


def text(value):
    """A TOML basic string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def write_manifest(folder, *, description, licence, side, background, fill, iso_level, resolution, images_max, cpu_points, cuda_dtype,
                   cuda_points, steps=None, guidance=None):
    """Writes `model.toml` for `model.pt` in the same folder, whose name becomes the model's.

    `side` in pixels, `background` sRGB in 0..1, `resolution` (default, least, greatest) in samples along the longest axis. With
    `steps`, and `guidance` where the model heeds it (each default, least, greatest), an iterative model's.
    """
    default, least, greatest = resolution
    spans = {"steps": steps, "guidance": guidance}
    spans = "".join("[{}]\ndefault = {}\nmin = {}\nmax = {}\n\n".format(name, *span) for name, span in spans.items() if span)
    manifest = f"""\
# Written by the export beside the model's file. Figures that you measure go under [accuracy].
name = {text(folder.name)}
contract = "implicit-field/{2 if steps else 1}"
description = {text(description)}
licence = {text(licence)}
matte = false

[file]
name = "model.pt"
sha256 = "{sha256_of(folder / "model.pt")}"

[input]
height = {side}
width = {side}
background = [{", ".join(f"{part:.1f}" for part in background)}]
fill = {fill}

[field]
iso_level = {iso_level:.1f}

[resolution]
default = {default}
min = {least}
max = {greatest}

[batch]
images_max = {images_max}

[cpu]
dtype = "float32"
points_per_pass = {cpu_points}

[cuda]
dtype = "{cuda_dtype}"
points_per_pass = {cuda_points}

{spans}[accuracy]
"""
    (folder / "model.toml").write_text(manifest)


def add_arguments(parser, checkpoint_help):
    """The options that all exports have."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=pathlib.Path, help=checkpoint_help)
    source.add_argument("--random", type=int, metavar="SEED", help="random weights instead, to test the way without a download")
    parser.add_argument("--small", action="store_true", help="with --random: a few small layers, written in a second")
    parser.add_argument("--out", type=pathlib.Path, help="folder to write, whose name is the model's; default: this script's, not with --random")
    parser.add_argument("--storage", choices=["half", "float32"], default="half", help="precision of the weights in the file")
    parser.add_argument("--cuda-dtype", choices=["half", "bfloat16", "float32"], default="half", help="precision on a GPU, for the manifest")


def folder_of(args, parser, script):
    """The folder to write, made if need be."""
    if args.random is not None and args.out is None:
        parser.error("--random needs --out, lest random weights be served under the model's name")
    if args.small and args.random is None:
        parser.error("--small needs --random: there are no small weights to load")
    return named_folder(args.out or pathlib.Path(script).parent, parser)


def named_folder(path, parser):
    """A folder to write a model to, made if need be: its name becomes the model's."""
    folder = path.resolve()
    if not NAME.fullmatch(folder.name):
        parser.error(f"the folder's name becomes the model's: lower-case letters, digits and hyphens, not {folder.name!r}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
