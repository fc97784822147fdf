"""A field on three planes, under the contract `implicit-field/1`: what TripoSR and InstantMesh have in common."""

import dataclasses
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.jit import Final

# The logit of points outside the box that the planes span. Both decoders' logits stay far above it.
OUTSIDE = -30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """A network's sizes; what both published models have alike is the default."""

    side: int
    channels: int
    hidden_layers: int
    patch: int = 16
    trained_side: int = 224
    vision_dim: int = 768
    vision_layers: int = 12
    vision_heads: int = 12
    plane_side: int = 32
    dim: int = 1024
    layers: int = 16
    heads: int = 16
    hidden: int = 64


# What is small in the networks for tests.
SMALL_SIZES = {"side": 64, "trained_side": 32, "vision_dim": 32, "vision_layers": 2, "vision_heads": 2, "plane_side": 8, "dim": 64,
               "layers": 2, "heads": 2, "channels": 8}


def to_model_frame(points: torch.Tensor) -> torch.Tensor:
    """The contract's frame (x right, y up, z towards the camera) -> the models' (x towards the camera, y right, z up).

    A cyclic exchange of axes, so nothing is mirrored. Shape [..., 3].
    """
    x, y, z = points.unbind(-1)
    return torch.stack([z, x, y], -1)


class TriplaneField(nn.Module):
    """Codes are planes [B, 3, channels, side, side]; an MLP reads density and colour off them at any point.

    The contract's cube is laid on the box that the planes span, whatever size the model thinks that has.
    Subclasses add `encode` and `image`, the network's part that reads pictures. `threshold` is the MLP's output at the published surface; the logit is its distance to that.
    """

    threshold: Final[float]
    colour_margin: Final[float]
    third_is_zy: Final[bool]
    outside: Final[float]

    def __init__(self, config: Sizes, activation: type, threshold: float, colour_margin: float, third_is_zy: bool):
        super().__init__()
        self.threshold = threshold
        self.colour_margin = colour_margin
        self.third_is_zy = third_is_zy
        self.outside = OUTSIDE
        layers = []
        for index in range(config.hidden_layers):
            layers += [nn.Linear(3 * config.channels if index == 0 else config.hidden, config.hidden), activation()]
        self.field = nn.Sequential(*layers)
        self.last = nn.Linear(config.hidden, 4)

    def prepare(self):
        """To be called once, when the weights are in place."""
        self.image.prepare()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.encode(images)

    def sample(self, codes: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        """Planes and points [B, N, 3] in the models' frame, the box being [-1, 1] -> features [B, N, 3 * channels]."""
        b, n = unit.shape[0], unit.shape[1]
        x, y, z = unit[:, :, 0], unit[:, :, 1], unit[:, :, 2]
        third = torch.stack([z, y], -1) if self.third_is_zy else torch.stack([y, z], -1)
        where = torch.stack([torch.stack([x, y], -1), torch.stack([x, z], -1), third], 1)
        # In float32 whatever the weights are: half precision would place points on a grid of 1/1024.
        features = F.grid_sample(codes.flatten(0, 1).float(), where.view(b * 3, 1, n, 2), mode="bilinear", padding_mode="zeros",
                                 align_corners=False)
        return features.view(b, -1, n).transpose(1, 2)

    def raw(self, codes: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """What the MLP says at the contract's points [B, N, 3]: f32 [B, N, 4], density before its activation, then colours."""
        unit = to_model_frame(points.float())
        hidden = self.field(self.sample(codes, unit).to(self.last.weight.dtype))
        # The last layer in float32, for steps of half precision would show as terraces on the surface.
        return F.linear(hidden.float(), self.last.weight.float(), self.last.bias.float())

    @torch.jit.export
    def query(self, codes: torch.Tensor, points: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Codes and points [B, N, 3] in [-1, 1] -> logits f32 [B, N], inside above 0, and sRGB f32 [B, N, 3] in 0..1."""
        raw = self.raw(codes, points)
        # Beyond the planes' edge the sampler gives zeros, and what the MLP makes of zeros is nobody's shape.
        inside = (points.float().abs() <= 1.0 + 1e-6).all(-1)
        logits = torch.where(inside, raw[:, :, 0] - self.threshold, torch.full_like(raw[:, :, 0], self.outside))
        colours = torch.sigmoid(raw[:, :, 1:]) * (1.0 + 2.0 * self.colour_margin) - self.colour_margin
        return logits, colours.clamp(0.0, 1.0)
