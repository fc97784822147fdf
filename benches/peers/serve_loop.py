"""The plain loop: float32, the dense grid, one picture after another in one thread. Prints the seconds of each as JSON.

    python serve_loop.py --model MODEL --pictures FOLDER --resolution 256 --conversions 8
"""

import argparse
import json
import pathlib
import time

import torch

import field
import work


def convert(model: field.Model, file: bytes, resolution: int) -> bytes:
    manifest, step = model.manifest, 2.0 / (resolution - 1)
    codes = model.encode([work.frame(file, manifest.side, manifest.background, manifest.fill)])
    volume, low = field.cropped(field.sample_field_dense(model, codes, resolution), manifest.iso)
    positions, normals, triangles = work.surface(volume, manifest.iso, low * step - 1.0, step)
    return work.glb(positions, normals, triangles, model.colours(codes, positions))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    field.add_arguments(parser)
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--conversions", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=1)
    args = parser.parse_args()
    files = work.pictures(args.pictures)
    model = field.Model(args.model, args.device, half=False)
    seconds = []
    with torch.inference_mode():
        for number in range(-args.warmup, args.conversions):
            began = time.perf_counter()
            size = len(convert(model, files[number % len(files)], args.resolution))
            if number >= 0:
                seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "glb_bytes": size}))


if __name__ == "__main__":
    main()
