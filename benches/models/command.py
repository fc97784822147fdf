"""The command line that the benchmarks' models are written by."""

import argparse
import pathlib

from export_tools import archive


def parsed(description, cuda_dtype):
    """The options, and the folder to write, made if need be."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write, whose name is the model's")
    parser.add_argument("--small", action="store_true", help="a few small layers, written in a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images-max", type=int, default=32, help="the manifest's largest batch")
    parser.add_argument("--cuda-dtype", choices=["half", "bfloat16", "float32"], default=cuda_dtype, help="precision on a GPU, for the manifest")
    args = parser.parse_args()
    return args, archive.named_folder(args.out, parser)
