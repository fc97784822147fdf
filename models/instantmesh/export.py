"""Writes InstantMesh's reconstruction model as the server serves it: model.pt and model.toml.

    python export.py --checkpoint instant_nerf_large.ckpt
    python export.py --checkpoint instant_nerf_base.ckpt --variant base --out ../instantmesh-base
    python export.py --random 1 --small --out ../../out/random/instantmesh-small
"""

import argparse
import pathlib
import sys

import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import network  # noqa: E402
from export_tools import archive, weights  # noqa: E402

DESCRIPTION = ("InstantMesh's reconstruction model ({variant}) by Tencent ARC Lab, given one picture in place of the six that it was "
               "trained on: a triplane field with colours. Expect less of it than of the released pipeline.")
VARIANTS = {"large": network.LARGE, "base": network.BASE}
# What else a training checkpoint holds is not of the reconstruction model, and the published code passes over it too.
PREFIX = "lrm_generator."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    archive.add_arguments(parser, "the published instant_nerf_large.ckpt or instant_nerf_base.ckpt")
    parser.add_argument("--variant", choices=VARIANTS, default="large")
    args = parser.parse_args()
    folder = archive.folder_of(args, parser, __file__)
    config = network.SMALL if args.small else VARIANTS[args.variant]
    names = network.names_of(config)
    if args.random is None:
        model = weights.build(network.InstantMesh, config, names, weights.read_checkpoint(args.checkpoint, PREFIX))
        description = DESCRIPTION.format(variant=args.variant)
    else:
        model, _ = weights.random_pair(network.InstantMesh, config, names, args.random)
        description = "InstantMesh's architecture with random weights, for tests."
    archive.write_archive(model, folder / "model.pt", getattr(torch, args.storage))
    # Trained on white. At the assumed camera the picture's side is 2.14 at the origin, so that 0.85 of it is 0.91 of the box.
    archive.write_manifest(folder, description=description, licence="Apache-2.0", side=config.side, background=(1.0, 1.0, 1.0), fill=0.85,
                           iso_level=0.0, resolution=(256, 32, 512), images_max=8, cpu_points=16384, cuda_dtype=args.cuda_dtype,
                           cuda_points=262144)
    print(f"{folder / 'model.pt'}: {(folder / 'model.pt').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
