"""Writes a model of TripoSR's size for benchmarks: random weights, and a surface like a real one all the same.

    python benches/models/triposr_sized.py --out out/bench/triposr-sized
    python benches/models/triposr_sized.py --small --out out/bench/triposr-sized-small

The whole network of models/triposr runs. What it says is scaled down and added to a bumpy sphere's field, so that the
surface has the size and the smoothness of a real one and still depends on the picture. Needs PyTorch alone.
"""

import pathlib
import sys
from typing import Tuple

import torch

MODELS = pathlib.Path(__file__).resolve().parents[2] / "models"
sys.path[:0] = [str(MODELS / "triposr"), str(MODELS)]

import command  # noqa: E402
import network  # noqa: E402
from export_tools import archive, weights  # noqa: E402

DESCRIPTION = "TripoSR's architecture with random weights, which roughen a bumpy sphere: for benchmarks. 419 M parameters."
SMALL_DESCRIPTION = "The benchmarks' model with a few small layers: for tests."


class TripoSRSized(network.TripoSR):
    """TripoSR whose field is a bumpy sphere's, and a little of the network's own."""

    def __init__(self, config: network.Config = network.FULL):
        super().__init__(config)
        # An object of TripoSR fills about 0.68 of the cube; the bumps go along each axis a little more than twice.
        self.radius = 0.62
        self.bump = 0.1
        self.wave = 8.0
        # Logits for a unit of length, as with models that were trained: between 4 and 14 with orfeas-mini.
        self.slope = 10.0
        # The network's outputs have a deviation of 1 (`weights.settle`): half a sample of 256, no more, roughens the surface.
        self.logit_share = 0.04
        self.colour_share = 0.05

    @torch.jit.export
    def query(self, codes: torch.Tensor, points: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Codes and points [B, N, 3] in [-1, 1] -> logits f32 [B, N], inside above 0, and sRGB f32 [B, N, 3] in 0..1."""
        raw = self.raw(codes, points)
        at = points.float()
        distance = torch.linalg.vector_norm(at, dim=-1)
        sphere = self.radius + self.bump * torch.sin(at * self.wave).prod(-1) - distance
        logits = self.slope * sphere + self.logit_share * (raw[:, :, 0] - self.threshold)
        colours = 0.5 + 0.45 * at / distance.clamp(min=1e-3)[:, :, None] + self.colour_share * raw[:, :, 1:]
        return logits, colours.clamp(0.0, 1.0)


def main():
    args, folder = command.parsed(__doc__, "half")
    config = network.SMALL if args.small else network.FULL
    model, _ = weights.random_pair(TripoSRSized, config, network.names_of(config), args.seed)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    archive.write_archive(model, folder / "model.pt", torch.half)
    archive.write_manifest(folder, description=SMALL_DESCRIPTION if args.small else DESCRIPTION, licence="MIT OR Apache-2.0",
                           side=config.side, background=(0.5, 0.5, 0.5), fill=0.85, iso_level=0.0, resolution=(256, 32, 512),
                           images_max=args.images_max, cpu_points=16384, cuda_dtype=args.cuda_dtype, cuda_points=1 << 20)
    print(f"{folder / 'model.pt'}: {(folder / 'model.pt').stat().st_size:,} bytes, {parameters:,} parameters")


if __name__ == "__main__":
    main()
