"""Holding an export against the implementation that it was written after."""

import argparse
import importlib
import pathlib
import sys
import tempfile
import time
import types

import torch

# The greatest absolute difference of what both compute in float32.
DIFFERENCE_MAX = 1e-4


class StandIn(types.ModuleType):
    """In place of a package that the reference imports and the comparison never calls."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_in_for(*packages):
    """Fills in for those of the packages that aren't installed."""
    # It looks at what is installed when it is first imported, and must not find the stand-ins.
    importlib.import_module("transformers")
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            sys.modules[package] = StandIn(package)


def vision_configuration(config):
    """The `ViTConfig` of facebook/dino-vitb16, or of a smaller one, without a download."""
    from transformers import ViTConfig

    return ViTConfig(hidden_size=config.vision_dim, num_hidden_layers=config.vision_layers, num_attention_heads=config.vision_heads,
                     intermediate_size=4 * config.vision_dim, hidden_act="gelu", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                     layer_norm_eps=1e-12, image_size=config.trained_side, patch_size=config.patch, num_channels=3, qkv_bias=True)


def arguments(description, variants=()):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=pathlib.Path, required=True, help="clone of the published repository")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="published weights instead of random ones")
    parser.add_argument("--image", type=pathlib.Path, help="a picture, squeezed to the model's square; default: seeded blobs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--points", type=int, default=100_000, help="points of the box at which the fields are compared")
    parser.add_argument("--small", action="store_true", help="a few small layers")
    parser.add_argument("--threads", type=int, default=2)
    if variants:
        parser.add_argument("--variant", choices=variants, default=variants[0])
    args = parser.parse_args()
    if args.small and args.checkpoint:
        parser.error("--small and --checkpoint exclude each other")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return args


def picture(args, side):
    """The picture to compare on: f32 [1, 3, side, side], sRGB in 0..1."""
    if args.image is None:
        generator = torch.Generator().manual_seed(args.seed)
        coarse = torch.rand(1, 3, 9, 9, generator=generator)
        fine = torch.rand(1, 3, side, side, generator=generator)
        blobs = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False)
        return (0.9 * blobs + 0.1 * fine).clamp(0.0, 1.0)
    import numpy
    from PIL import Image

    pixels = numpy.asarray(Image.open(args.image).convert("RGB").resize((side, side)), dtype=numpy.float32) / 255.0
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def box_points(args):
    """Points f32 [1, N, 3] of the contract's cube."""
    return torch.rand(1, args.points, 3, generator=torch.Generator().manual_seed(args.seed + 1)) * 2.0 - 1.0


def timed(name, compute):
    began = time.monotonic()
    result = compute()
    print(f"  {name}: {time.monotonic() - began:.1f} s", flush=True)
    return result


class Archive:
    """The exported file of a model, written to a temporary folder and read back as the server reads it."""

    def __init__(self, model, storage):
        from export_tools.archive import write_archive

        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.pt"
            write_archive(model, path, storage)
            self.bytes = path.stat().st_size
            self.module = torch.jit.load(str(path)).float().eval()


def spread(name, values):
    """Prints how varied values are: agreement on a constant would prove nothing."""
    values = values.float().flatten()
    if values.numel() > 2_000_000:
        values = values[:: values.numel() // 2_000_000 + 1]
    low, middle, high = torch.quantile(values, torch.tensor([0.01, 0.5, 0.99])).tolist()
    print(f"  {name}: mean {values.mean():.4g}, deviation {values.std():.4g}, 1% {low:.4g}, median {middle:.4g}, 99% {high:.4g}")


def differences(title, pairs):
    """Prints each pair's greatest and mean absolute difference; returns the greatest of all."""
    print(title)
    worst = 0.0
    for name, ours, theirs in pairs:
        if ours.shape != theirs.shape:
            raise ValueError(f"{name}: shape {tuple(ours.shape)} against {tuple(theirs.shape)}")
        difference = (ours.double() - theirs.double()).abs()
        worst = max(worst, float(difference.max()))
        print(f"  {name}: greatest {difference.max():.3g}, mean {difference.mean():.3g}, greatest value {theirs.abs().max():.4g}")
    return worst


def frames_agree(pairs):
    """Prints whether each pair of directions, the published and ours, is the same; true if all are."""
    agree = [torch.allclose(theirs, ours, atol=1e-5) for _, theirs, ours in pairs]
    for (name, _, _), same in zip(pairs, agree):
        print(f"  {name}: {'yes' if same else 'NO'}")
    return all(agree)


def verdict(worst):
    """Says how it went and gives the exit code."""
    agreed = worst <= DIFFERENCE_MAX
    print(f"{'agree' if agreed else 'DIFFER'}: greatest absolute difference {worst:.3g}, at most {DIFFERENCE_MAX:g} allowed")
    return 0 if agreed else 1
