"""Attention and the vision transformer of DINO, as TorchScript can compile them."""

from typing import List, Optional

import torch
import torch.nn.functional as F
from torch import nn
from torch.jit import Final

# ImageNet's mean and deviation for each of R, G, B, with which DINO was trained.
IMAGE_MEAN = [0.485, 0.456, 0.406]
IMAGE_DEVIATION = [0.229, 0.224, 0.225]


class Attention(nn.Module):
    """Queries from `x`, keys and values from `context`."""

    heads: Final[int]

    def __init__(self, dim: int, context_dim: int, heads: int, bias: bool, out_bias: bool):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key = nn.Linear(context_dim, dim, bias=bias)
        self.value = nn.Linear(context_dim, dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=out_bias)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, dim] -> [B, heads, T, dim / heads]."""
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """[B, T, dim] and [B, S, context_dim] -> [B, T, dim]."""
        mixed = F.scaled_dot_product_attention(self.split(self.query(x)), self.split(self.key(context)), self.split(self.value(context)))
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


class VisionBlock(nn.Module):
    """Pre-norm attention and MLP. With `modulated`, a camera's embedding shifts and scales what both norms give."""

    def __init__(self, dim: int, heads: int, modulated: bool):
        super().__init__()
        # DINO's configuration has this epsilon; PyTorch's default is 1e-5.
        self.norm_attention = nn.LayerNorm(dim, eps=1e-12)
        self.attention = Attention(dim, dim, heads, bias=True, out_bias=True)
        self.norm_mlp = nn.LayerNorm(dim, eps=1e-12)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)
        self.modulation = nn.Linear(dim, 4 * dim) if modulated else None

    def forward(self, x: torch.Tensor, camera: Optional[torch.Tensor]) -> torch.Tensor:
        """[B, T, dim] and, if modulated, [B, dim] -> [B, T, dim]."""
        shifts: List[torch.Tensor] = []
        if self.modulation is not None and camera is not None:
            shifts = list(self.modulation(F.silu(camera))[:, None].chunk(4, dim=2))
        y = self.norm_attention(x)
        if len(shifts) == 4:
            y = y * (1.0 + shifts[1]) + shifts[0]
        x = x + self.attention(y, y)
        y = self.norm_mlp(x)
        if len(shifts) == 4:
            y = y * (1.0 + shifts[3]) + shifts[2]
        return x + self.down(F.gelu(self.up(y)))


class VisionTransformer(nn.Module):
    """DINO's ViT: pictures [B, 3, side, side], sRGB in 0..1 -> tokens [B, 1 + patches, dim], the summary token first."""

    mean: Final[List[float]]
    deviation: Final[List[float]]

    def __init__(self, side: int, patch: int, trained_side: int, dim: int, layers: int, heads: int, modulated: bool):
        super().__init__()
        self.mean = IMAGE_MEAN
        self.deviation = IMAGE_DEVIATION
        self.patches_a_side = side // patch
        self.patch = nn.Conv2d(3, dim, patch, stride=patch)
        self.summary = nn.Parameter(torch.zeros(1, 1, dim))
        self.table = nn.Parameter(torch.zeros(1, 1 + (trained_side // patch) ** 2, dim))
        self.blocks = nn.ModuleList([VisionBlock(dim, heads, modulated) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim, eps=1e-12)

    @torch.no_grad()
    def prepare(self):
        """Replaces the trained table of positions with the one for this picture size. Call it once, with the weights in place.

        The ViT of `transformers` (until 4.44) calls for a tenth of a patch more than there is, lest rounding lose a row,
        and this scale, not the ratio of the sides, is where its bicubic filter reads. The published weights were trained so.
        """
        trained = round((self.table.shape[1] - 1) ** 0.5)
        grid = self.table[:, 1:].reshape(1, trained, trained, -1).permute(0, 3, 1, 2)
        scale = (self.patches_a_side + 0.1) / trained
        # At its trained size the table is used as it is.
        if self.patches_a_side != trained:
            grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
        assert grid.shape[2:] == (self.patches_a_side, self.patches_a_side), grid.shape
        self.position = nn.Parameter(grid.flatten(2).transpose(1, 2).contiguous())
        self.summary = nn.Parameter(self.summary + self.table[:, :1])
        del self.table

    def forward(self, images: torch.Tensor, camera: Optional[torch.Tensor]) -> torch.Tensor:
        # Made on the pictures' device: a constant in the file would be tied to the exporter's. In float32, for half
        # precision can't hold these numbers to the 8 bits that a picture has.
        mean = torch.tensor(self.mean, dtype=torch.float32, device=images.device).view(1, 3, 1, 1)
        deviation = torch.tensor(self.deviation, dtype=torch.float32, device=images.device).view(1, 3, 1, 1)
        normalised = ((images.float() - mean) / deviation).to(self.position.dtype)
        patches = self.patch(normalised).flatten(2).transpose(1, 2) + self.position
        x = torch.cat([self.summary.expand(images.shape[0], -1, -1), patches], 1)
        for block in self.blocks:
            x = block(x, camera)
        return self.norm(x)


def vision_names(ours: str, theirs: str):
    """Patterns of our parameters' names and the names that Hugging Face's ViT gives them, for `weights.Names`."""
    block = rf"{ours}\.blocks\.(\d+)\."
    layer = rf"{theirs}.encoder.layer.\1."
    return [
        (rf"{ours}\.patch\.", f"{theirs}.embeddings.patch_embeddings.projection."),
        (rf"{ours}\.summary", f"{theirs}.embeddings.cls_token"),
        (rf"{ours}\.table", f"{theirs}.embeddings.position_embeddings"),
        (rf"{ours}\.norm\.", f"{theirs}.layernorm."),
        (block + r"norm_attention\.", layer + "layernorm_before."),
        (block + r"norm_mlp\.", layer + "layernorm_after."),
        (block + r"attention\.out\.", layer + "attention.output.dense."),
        (block + r"attention\.(query|key|value)\.", layer + r"attention.attention.\2."),
        (block + r"up\.", layer + "intermediate.dense."),
        (block + r"down\.", layer + "output.dense."),
        (block + r"modulation\.", layer + "adaLN_modulation.1."),
    ]
