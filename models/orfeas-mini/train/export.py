"""Writes the model the server loads: TorchScript, int8 transformer weights, half precision elsewhere, at most 24 MB.

    python export.py --weights CHECKPOINT_OR_MODEL --out model.pt
"""

import argparse
import hashlib
import pathlib
import tempfile

import torch
from torch import nn

import model

BYTES_MAX = 24_000_000


def quantise(core):
    """Replaces the transformers' linear layers with int8 ones, in place."""
    for block in [*core.encoder, *core.decoder]:
        for part in block.modules():
            for name, child in list(part.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(part, name, model.QuantLinear(child))


def without_paths(source, target):
    """Copies a TorchScript archive without its debug records, which hold the exporter's file paths."""
    reader = torch._C.PyTorchFileReader(str(source))
    writer = torch._C.PyTorchFileWriter(str(target))
    written_last = (".data/serialization_id", "version", "byteorder")
    for name in reader.get_all_records():
        if name.endswith(".debug_pkl") or name in written_last:
            continue
        record = reader.get_record(name)
        writer.write_record(name, record, len(record))
    version = int(reader.get_record("version").strip()) if reader.has_record("version") else 10
    writer.set_min_version(version)
    writer.write_end_of_file()


def export(core, path):
    """Exports the core; returns the file's sha256."""
    core = core.float().cpu()
    quantise(core)
    served = model.Served(core).eval()
    for parameter in served.parameters():
        parameter.requires_grad_(False)
    scripted = torch.jit.script(served.half())
    with tempfile.TemporaryDirectory() as folder:
        raw = pathlib.Path(folder) / "model.pt"
        scripted.save(str(raw))
        without_paths(raw, path)
    data = pathlib.Path(path).read_bytes()
    if len(data) > BYTES_MAX:
        raise ValueError(f"the model has {len(data)} bytes, more than {BYTES_MAX}")
    return hashlib.sha256(data).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    core = model.Core()
    model.load_weights(core, args.weights)
    print(f"sha256 {export(core, args.out)}, {pathlib.Path(args.out).stat().st_size} bytes")


if __name__ == "__main__":
    main()
