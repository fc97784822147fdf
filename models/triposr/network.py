"""TripoSR, written from its published configuration, under the contract `implicit-field/1`."""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

from export_tools.layers import Attention, VisionTransformer, vision_names
from export_tools.planes import SMALL_SIZES, Sizes, TriplaneField
from export_tools.weights import Names

# The density that the published code takes for the surface, exp(output - 1).
DENSITY_THRESHOLD = 25.0
DENSITY_BIAS = -1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Sizes):
    """Groups of the norm over the planes' tokens, besides."""

    groups: int = 32


# The published model's sizes, and small ones for tests.
FULL = Config(side=512, channels=40, hidden_layers=9)
SMALL = Config(**SMALL_SIZES, groups=4, hidden=16, hidden_layers=3)


class PlaneBlock(nn.Module):
    """Self-attention among the planes' tokens, a look at the picture's, and a gated MLP, each after a norm."""

    def __init__(self, dim: int, context_dim: int, heads: int):
        super().__init__()
        self.norm_self = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, dim, heads, bias=False, out_bias=True)
        self.norm_cross = nn.LayerNorm(dim)
        self.cross_attention = Attention(dim, context_dim, heads, bias=False, out_bias=True)
        self.norm_mlp = nn.LayerNorm(dim)
        self.gated_up = nn.Linear(dim, 8 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def among_themselves(self, x: torch.Tensor) -> torch.Tensor:
        """The first part: [B, T, dim] -> [B, T, dim]."""
        y = self.norm_self(x)
        return x + self.self_attention(y, y)

    def looking(self, x: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        """The rest: [B, T, dim] and [B, S, context_dim] -> [B, T, dim]."""
        x = x + self.cross_attention(self.norm_cross(x), picture)
        y = self.norm_mlp(x)
        # The halves one by one: of a product for both they would be strided, and a GPU takes three times as long over each.
        up, gate_up = self.gated_up.weight.chunk(2)
        up_bias, gate_bias = self.gated_up.bias.chunk(2)
        value, gate = F.linear(y, up, up_bias), F.linear(y, gate_up, gate_bias)
        return x + self.down(value * F.gelu(gate))


class TripoSR(TriplaneField):
    """One picture in, three planes [B, 3, 40, 64, 64] out.

    The published box is [-0.87, 0.87] and its planes span it whole. The contract's cube is laid on that box, so a unit of
    the contract is 0.87 of TripoSR's, and there is no point of the contract that the planes don't reach.
    """

    def __init__(self, config: Config = FULL):
        super().__init__(config, nn.SiLU,
                         threshold=math.log(DENSITY_THRESHOLD) - DENSITY_BIAS, colour_margin=0.0, third_is_zy=False)
        self.image = VisionTransformer(config.side, config.patch, config.trained_side, config.vision_dim, config.vision_layers,
                                       config.vision_heads, modulated=False)
        self.plane_tokens = nn.Parameter(torch.zeros(3, config.dim, config.plane_side, config.plane_side))
        self.norm = nn.GroupNorm(config.groups, config.dim, eps=1e-6)
        self.enter = nn.Linear(config.dim, config.dim)
        self.blocks = nn.ModuleList([PlaneBlock(config.dim, config.vision_dim, config.heads) for _ in range(config.layers)])
        self.leave = nn.Linear(config.dim, config.dim)
        self.upsample = nn.ConvTranspose2d(config.dim, config.channels, 2, stride=2)

    @torch.jit.export
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures f32 [B, 3, 512, 512], sRGB in 0..1 -> codes [B, 3, 40, 64, 64]."""
        b = images.shape[0]
        picture = self.image(images, None)
        _, dim, side, _ = self.plane_tokens.shape
        # Plane by plane, row by row: [1, dim, 3 * side * side].
        tokens = self.plane_tokens.transpose(0, 1).reshape(1, dim, -1)
        x = self.enter(self.norm(tokens).transpose(1, 2))
        for index, block in enumerate(self.blocks):
            x = block.among_themselves(x)
            if index == 0:
                # Until they look at a picture, they are the same for all.
                x = x.expand(b, -1, -1)
            x = block.looking(x, picture)
        grown = self.leave(x).transpose(1, 2) + tokens
        planes = grown.reshape(b, dim, 3, side, side).transpose(1, 2).flatten(0, 1)
        raised = self.upsample(planes)
        return raised.view(b, 3, raised.shape[1], raised.shape[2], raised.shape[3])


def names_of(config: Config) -> Names:
    block = r"blocks\.(\d+)\."
    layer = r"backbone.transformer_blocks.\1."
    pairs = vision_names("image", "image_tokenizer.model") + [
        (r"plane_tokens", "tokenizer.embeddings"),
        (r"norm\.", "backbone.norm."),
        (r"enter\.", "backbone.proj_in."),
        (r"leave\.", "backbone.proj_out."),
        (block + r"norm_self\.", layer + "norm1."),
        (block + r"norm_cross\.", layer + "norm2."),
        (block + r"norm_mlp\.", layer + "norm3."),
        (block + r"gated_up\.", layer + "ff.net.0.proj."),
        (block + r"down\.", layer + "ff.net.2."),
        (r"upsample\.", "post_processor.upsample."),
        (r"field\.", "decoder.layers."),
        (r"last\.", f"decoder.layers.{2 * config.hidden_layers}."),
    ]
    for ours, theirs in (("self_attention", "attn1"), ("cross_attention", "attn2")):
        pairs += [(block + rf"{ours}\.{part}\.", layer + f"{theirs}.{name}.")
                  for part, name in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("out", "to_out.0"))]
    # The ViT's pooled summary is computed by the published code and read by nobody.
    return Names(pairs, unused=[r"^image_tokenizer\.model\.pooler\."])
