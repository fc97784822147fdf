"""Writes an iterative model (`implicit-field/2`) for benchmarks: a diffusion transformer with random weights.

    python benches/models/diffusion_sized.py --out out/bench/diffusion-sized
    python benches/models/diffusion_sized.py --small --out out/bench/diffusion-sized-small

Each step runs the whole network twice, with the picture and without, as guidance asks. What comes of it roughens a bumpy
sphere a little, so that the surface depends on picture, steps, guidance and seed. Needs PyTorch alone.
"""

import dataclasses
import pathlib
import sys
from typing import Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "models"))
import command  # noqa: E402
from export_tools import archive  # noqa: E402

DESCRIPTION = "A diffusion transformer with random weights, which roughens a bumpy sphere: for benchmarks. {millions} M parameters."


@dataclasses.dataclass
class Config:
    side: int
    patch: int
    width: int
    depth: int
    heads: int
    # Latents of one conversion.
    tokens: int
    channels: int


# The latents and the width of published shape models of 2025 that denoise sets of vectors.
FULL = Config(side=224, patch=14, width=1024, depth=16, heads=16, tokens=1024, channels=64)
SMALL = Config(side=64, patch=16, width=96, depth=3, heads=4, tokens=48, channels=16)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.keys = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def apart(self, tensor: Tensor) -> Tensor:
        return tensor.unflatten(2, [self.heads, tensor.size(2) // self.heads]).transpose(1, 2)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        keys, values = self.keys(context).chunk(2, -1)
        mixed = functional.scaled_dot_product_attention(self.apart(self.query(x)), self.apart(keys), self.apart(values))
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        width = config.width
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.own = Attention(width, config.heads)
        self.picture = Attention(width, config.heads)
        self.mix = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        for at, norm in enumerate(self.norms):
            normed = norm(x)
            if at == 0:
                x = x + self.own(normed, normed)
            elif at == 1:
                x = x + self.picture(normed, codes)
            else:
                x = x + self.mix(normed)
        return x


class DiffusionSized(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.tokens = config.tokens
        self.channels = config.channels
        width = config.width
        self.patches = nn.Conv2d(3, width, config.patch, config.patch)
        self.places = nn.Parameter(torch.randn(config.tokens, width))
        self.time = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.rise = nn.Linear(config.channels, width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.depth)])
        self.fall = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.channels))
        self.bumps = nn.Linear(config.channels, 24)

    def velocity(self, latents: Tensor, codes: Tensor, time: Tensor) -> Tensor:
        x = self.rise(latents) + self.places + self.time(time[:, None])[:, None]
        for block in self.blocks:
            x = block(x, codes)
        return self.fall(x)

    @torch.jit.export
    def encode(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] -> codes [B, patches, width]."""
        return self.patches(images.to(self.places.dtype)).flatten(2).transpose(1, 2)

    @torch.jit.export
    def begin(self, codes: Tensor, seed: Tensor) -> Tensor:
        """Noise f32 [B, tokens, channels] from each row's own seed, by whole numbers: the same in any company."""
        count = self.tokens * self.channels
        lanes = torch.arange(2 * count, device=seed.device)
        mixed = (seed[:, None] * 2654435 + lanes + 1) % 4294967296
        for _ in range(3):
            mixed = (mixed ^ (mixed >> 16)) * 73244475 % 4294967296
        unit = ((mixed >> 8).to(torch.float32) + 0.5) / 16777216
        # Box and Muller.
        noise = (-2 * unit[:, :count].log()).sqrt() * (2 * torch.pi * unit[:, count:]).cos()
        return noise.unflatten(1, [self.tokens, self.channels])

    @torch.jit.export
    def denoise(self, latents: Tensor, codes: Tensor, step: Tensor, steps: Tensor, guidance: Tensor) -> Tensor:
        """One step of a straight flow, each row at its own time."""
        time = (1 - step.to(torch.float32) / steps).to(self.places.dtype)
        both = torch.cat([latents, latents]).to(self.places.dtype)
        guided, free = self.velocity(both, torch.cat([codes, torch.zeros_like(codes)]), torch.cat([time, time])).float().chunk(2)
        velocity = free + guidance[:, None, None] * (guided - free)
        return latents - velocity.clamp(-8, 8) / steps[:, None, None]

    @torch.jit.export
    def query(self, codes: Tensor, points: Tensor) -> Tuple[Tensor, Tensor]:
        """The last latents and points [B, N, 3] in [-1, 1] -> logits f32 [B, N], inside above 0, and sRGB f32 [B, N, 3]."""
        at = points.float()
        waves = torch.cat([(at * 2).sin(), (at * 2).cos(), (at * 5).sin(), (at * 5).cos()], -1)
        weights = self.bumps(codes.mean(1).to(self.places.dtype)).float().tanh()
        bumps = (waves * weights[:, None, :12]).sum(-1)
        distance = torch.linalg.vector_norm(at, dim=-1)
        colours = 0.5 + 0.4 * at / distance.clamp(min=1e-3)[:, :, None] + 0.1 * weights[:, None, 12:15]
        return 10 * (0.62 + 0.05 * bumps - distance), colours.clamp(0.0, 1.0)


def main():
    args, folder = command.parsed(__doc__, "bfloat16")
    torch.manual_seed(args.seed)
    config = SMALL if args.small else FULL
    model = DiffusionSized(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    archive.write_archive(model, folder / "model.pt", torch.half)
    archive.write_manifest(folder, description=DESCRIPTION.format(millions=round(parameters / 1e6, 1)), licence="MIT OR Apache-2.0",
                           side=config.side, background=(0.5, 0.5, 0.5), fill=0.85, iso_level=0.0, resolution=(128, 32, 512),
                           images_max=args.images_max, cpu_points=16384, cuda_dtype=args.cuda_dtype, cuda_points=1 << 20,
                           steps=(25, 1, 200), guidance=(3.0, 0.0, 20.0))
    print(f"{folder / 'model.pt'}: {(folder / 'model.pt').stat().st_size:,} bytes, {parameters:,} parameters")


if __name__ == "__main__":
    main()
