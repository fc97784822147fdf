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


def build(config, state):
    """The network with a published state dict's weights, ready to run."""
    model = network.InstantMesh(config)
    weights.load(model, state, network.names_of(config))
    model.prepare()
    return model.eval()


def random_pair(config, seed):
    """A network with seeded random weights, and the same weights as a published state dict."""
    names = network.names_of(config)
    with torch.no_grad():
        state = weights.random_state(network.InstantMesh(config), names, seed)
        model = build(config, state)
        images = torch.rand(1, 3, config.side, config.side, generator=torch.Generator().manual_seed(seed))
        weights.settle(model, names, state, images, seed)
    return model, state


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    archive.add_arguments(parser, "the published instant_nerf_large.ckpt or instant_nerf_base.ckpt")
    parser.add_argument("--variant", choices=VARIANTS, default="large")
    args = parser.parse_args()
    folder = archive.folder_of(args, parser, __file__)
    config = network.SMALL if args.small else VARIANTS[args.variant]
    if args.random is None:
        model = build(config, weights.read_checkpoint(args.checkpoint, PREFIX))
        description = DESCRIPTION.format(variant=args.variant)
    else:
        model, description = random_pair(config, args.random)[0], "InstantMesh's architecture with random weights, for tests."
    archive.write_archive(model, folder / "model.pt", getattr(torch, args.storage))
    # Trained on white. At the assumed camera the picture's side is 2.14 at the origin, so that 0.85 of it is 0.91 of the box.
    archive.write_manifest(folder, description=description, licence="Apache-2.0", side=config.side, background=(1.0, 1.0, 1.0), fill=0.85,
                           iso_level=0.0, resolution=(256, 32, 512), images_max=8, cpu_points=16384, cuda_dtype=args.cuda_dtype,
                           cuda_points=262144)
    print(f"{folder / 'model.pt'}: {(folder / 'model.pt').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
