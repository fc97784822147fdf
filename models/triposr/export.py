"""Writes TripoSR as the server serves it: model.pt and model.toml.

    python export.py --checkpoint model.ckpt
    python export.py --random 1 --small --out ../../out/random/triposr-small
"""

import argparse
import pathlib
import sys

import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import network  # noqa: E402
from export_tools import archive, weights  # noqa: E402

DESCRIPTION = "TripoSR by Tripo AI and Stability AI: one picture of one object in, a triplane field with colours out. 419 M parameters."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    archive.add_arguments(parser, "the published model.ckpt")
    args = parser.parse_args()
    folder = archive.folder_of(args, parser, __file__)
    config = network.SMALL if args.small else network.FULL
    names = network.names_of(config)
    if args.random is None:
        model, description = weights.build(network.TripoSR, config, names, weights.read_checkpoint(args.checkpoint)), DESCRIPTION
    else:
        model, _ = weights.random_pair(network.TripoSR, config, names, args.random)
        description = "TripoSR's architecture with random weights, for tests."
    archive.write_archive(model, folder / "model.pt", getattr(torch, args.storage))
    # The published code composites over mid grey and lets the object fill 0.85 of the picture's side.
    archive.write_manifest(folder, description=description, licence="MIT", side=config.side, background=(0.5, 0.5, 0.5), fill=0.85,
                           iso_level=0.0, resolution=(256, 32, 512), images_max=8, cpu_points=16384, cuda_dtype=args.cuda_dtype,
                           cuda_points=262144)
    print(f"{folder / 'model.pt'}: {(folder / 'model.pt').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
