"""InstantMesh's reconstruction model (the NeRF variants), written from its published configuration.

It was trained on six pictures of an object with their cameras. The contract has one picture, so `encode` gives it that one,
taken from where the released pipeline has its views' middle: level, at distance 4, with a field of view of 30 degrees.
"""

import dataclasses
import math
from typing import List

import torch
import torch.nn.functional as F
from torch import nn
from torch.jit import Final

from export_tools.layers import Attention, VisionTransformer, vision_names
from export_tools.planes import SMALL_SIZES, Sizes, TriplaneField
from export_tools.weights import Names

# The published surface: softplus(output - 1) = 10.
DENSITY_THRESHOLD = 10.0

CAMERA_DISTANCE = 4.0
FIELD_OF_VIEW_DEGREES = 30.0

# The published models' sizes, and small ones for tests.
LARGE = Sizes(side=320, channels=80, hidden_layers=3)
BASE = dataclasses.replace(LARGE, layers=12, channels=40)
SMALL = Sizes(**SMALL_SIZES, hidden_layers=3)


def level_camera() -> List[float]:
    """The camera that the contract's picture is taken with, as the model wants cameras: 16 numbers.

    They are the first three rows of the camera-to-world matrix, whose columns are the camera's right, up, backward and
    place in the model's frame (x towards the camera, y right, z up), then focal lengths and principal point by the
    picture's side.
    """
    focal = 0.5 / math.tan(math.radians(FIELD_OF_VIEW_DEGREES) / 2.0)
    rows = [[0.0, 0.0, 1.0, CAMERA_DISTANCE], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    return [value for row in rows for value in row] + [focal, focal, 0.5, 0.5]


class PlaneBlock(nn.Module):
    """The planes' tokens look at the pictures', then at one another, then pass an MLP, each after a norm."""

    def __init__(self, dim: int, context_dim: int, heads: int):
        super().__init__()
        self.norm_cross = nn.LayerNorm(dim)
        self.cross_attention = Attention(dim, context_dim, heads, bias=False, out_bias=False)
        self.norm_self = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, dim, heads, bias=False, out_bias=False)
        self.norm_mlp = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        """[B, T, dim] and [B, S, context_dim] -> [B, T, dim]."""
        x = x + self.cross_attention(self.norm_cross(x), pictures)
        y = self.norm_self(x)
        x = x + self.self_attention(y, y)
        return x + self.down(F.gelu(self.up(self.norm_mlp(x))))


class InstantMesh(TriplaneField):
    """Pictures with cameras in, three planes [B, 3, channels, 64, 64] out. The published box is the contract's, [-1, 1]."""

    camera: Final[List[float]]

    def __init__(self, config: Sizes = LARGE):
        # softplus(output - 1) passes the threshold where output - 1 is ln(e^threshold - 1).
        super().__init__(config, nn.ReLU,
                         threshold=1.0 + math.log(math.expm1(DENSITY_THRESHOLD)), colour_margin=0.001, third_is_zy=True)
        self.camera = level_camera()
        self.image = VisionTransformer(config.side, config.patch, config.trained_side, config.vision_dim, config.vision_layers,
                                       config.vision_heads, modulated=True)
        self.camera_in = nn.Linear(len(self.camera), config.vision_dim)
        self.camera_out = nn.Linear(config.vision_dim, config.vision_dim)
        self.plane_tokens = nn.Parameter(torch.zeros(1, 3 * config.plane_side**2, config.dim))
        self.plane_side = config.plane_side
        self.blocks = nn.ModuleList([PlaneBlock(config.dim, config.vision_dim, config.heads) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.upsample = nn.ConvTranspose2d(config.dim, config.channels, 2, stride=2)

    @torch.jit.export
    def encode_views(self, images: torch.Tensor, cameras: torch.Tensor) -> torch.Tensor:
        """Pictures f32 [B, V, 3, 320, 320] and cameras f32 [B, V, 16] -> codes [B, 3, channels, 64, 64].

        Not part of the contract: for programs of your own that have several views, as the model was trained for.
        """
        b = images.shape[0]
        dtype = self.plane_tokens.dtype
        seen_from = self.camera_out(F.silu(self.camera_in(cameras.flatten(0, 1).to(dtype))))
        tokens = self.image(images.flatten(0, 1), seen_from)
        pictures = tokens.reshape(b, -1, tokens.shape[2])
        x = self.plane_tokens.expand(b, -1, -1)
        for block in self.blocks:
            x = block(x, pictures)
        planes = self.norm(x).reshape(b * 3, self.plane_side, self.plane_side, -1).permute(0, 3, 1, 2)
        raised = self.upsample(planes)
        return raised.view(b, 3, raised.shape[1], raised.shape[2], raised.shape[3])

    @torch.jit.export
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures f32 [B, 3, 320, 320], sRGB in 0..1 -> codes [B, 3, channels, 64, 64]."""
        camera = torch.tensor(self.camera, dtype=torch.float32, device=images.device)
        return self.encode_views(images[:, None], camera.expand(images.shape[0], 1, -1))


def names_of(config: Sizes) -> Names:
    block = r"blocks\.(\d+)\."
    layer = r"transformer.layers.\1."
    pairs = vision_names("image", "encoder.model") + [
        (r"camera_in\.", "encoder.camera_embedder.0."),
        (r"camera_out\.", "encoder.camera_embedder.2."),
        (r"plane_tokens", "transformer.pos_embed"),
        (r"norm\.", "transformer.norm."),
        (r"upsample\.", "transformer.deconv."),
        (block + r"norm_cross\.", layer + "norm1."),
        (block + r"norm_self\.", layer + "norm2."),
        (block + r"norm_mlp\.", layer + "norm3."),
        (block + r"up\.", layer + "mlp.0."),
        (block + r"down\.", layer + "mlp.3."),
        (block + r"self_attention\.out\.", layer + "self_attn.out_proj."),
        (block + r"cross_attention\.out\.", layer + "cross_attn.out_proj."),
        (r"field\.", "synthesizer.decoder.net."),
        (r"last\.", f"synthesizer.decoder.net.{2 * config.hidden_layers}."),
    ]
    for third, (part, letter) in enumerate((("query", "q"), ("key", "k"), ("value", "v"))):
        # Where all three read the same tokens, PyTorch's attention keeps them in one matrix.
        pairs += [(block + rf"self_attention\.{part}\.weight", layer + f"self_attn.in_proj_weight@{third}"),
                  (block + rf"cross_attention\.{part}\.weight", layer + f"cross_attn.{letter}_proj_weight")]
    return Names(pairs)
