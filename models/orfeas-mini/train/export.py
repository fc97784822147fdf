"""Writes the model the server loads: TorchScript, int8 transformer weights, half precision elsewhere, at most 24 MB.

    python export.py --weights CHECKPOINT_OR_MODEL[,...] --out model.pt

Of several weights, with commas between, the mean is exported.
"""

import argparse
import pathlib
import sys

import torch
from torch import nn

import model

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))
from export_tools import archive  # noqa: E402

BYTES_MAX = 24_000_000


def quantise(core):
    """Replaces the transformers' linear layers with int8 ones, in place."""
    for block in [*core.encoder, *core.decoder]:
        for part in block.modules():
            for name, child in list(part.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(part, name, model.QuantLinear(child))


def export(core, path):
    """Exports the core; returns the file's sha256."""
    core = core.float().cpu()
    quantise(core)
    path = pathlib.Path(path).resolve()
    archive.write_archive(model.Served(core), path, torch.half)
    if path.stat().st_size > BYTES_MAX:
        raise ValueError(f"the model has {path.stat().st_size} bytes, more than {BYTES_MAX}")
    return archive.sha256_of(path)


def mean_of(paths):
    """A core whose weights are the mean of those at the paths."""
    core, states = model.Core(), []
    for path in paths:
        model.load_weights(core, path)
        states.append({key: value.clone() for key, value in core.state_dict().items()})
    core.load_state_dict({key: sum(state[key] for state in states) / len(states) for key in states[0]})
    return core


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    print(f"sha256 {export(mean_of(args.weights.split(',')), args.out)}, {pathlib.Path(args.out).stat().st_size} bytes")


if __name__ == "__main__":
    main()
