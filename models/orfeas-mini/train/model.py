"""The network: one picture in, an occupancy and colour field out, in the camera's frame.

    python model.py [--init model.pt]     counts the parameters, and checks a load

A vision transformer reads the picture; a decoder makes three feature planes from its tokens; a small convolutional
decoder makes a pixel-aligned feature map, the object's mask, and the depths at which each pixel's ray enters and
leaves the object. A point's features are the planes' and the map's where the predicted camera sees it, and how far the
point is from the two depths. The box spans ±1 in x and y (the crop) and ±1.6 in depth.
"""

import argparse
import io
import pathlib
from typing import Final, Tuple

import torch
import torch.nn.functional as F
from torch import nn

DEPTH_HALF = 1.6
SPAN = 1.3           # points of the contract's cube are this much wider in crop units
OUTSIDE = -12.0      # logit beyond the box
PLANE, PLANE_SIDE, MAP, MAP_SIDE, CAMERA = 32, 64, 32, 96, 5
DEPTHS = 2           # channels after the map's own: nearest and farthest surface on the pixel's ray, in units of the box
# Where the mask is surer than this, the picture's ray must meet a logit of FILL, looked for at RAY_STEPS depths from a
# little before the nearest surface to a little behind the farthest; a ray that lacks no more than FILL_MOST is raised.
RAY_MASK, FILL, FILL_MOST, RAY_STEPS, RAY_MARGIN = 0.8, 0.15, 1.2, 20, 0.12
DEPTH_SCALES = (1.0, 8.0, 40.0)   # a point's distance to each is given to the field at these sharpnesses
WIDTH, DEPTH, HEADS = 384, 8, 6
DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS = 256, 6, 4


class QuantLinear(nn.Module):
    """A linear layer whose weights are int8 with a scale per output channel."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=1e-8) / 127
        scale = scale.half().float()
        self.register_buffer("weight", (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8))
        self.register_buffer("scale", scale.half())
        self.register_buffer("bias", linear.bias.detach().half())

    def forward(self, x):
        weight = self.weight.to(x.dtype) * self.scale.to(x.dtype).unsqueeze(1)
        return F.linear(x, weight, self.bias.to(x.dtype))


class Attention(nn.Module):
    def __init__(self, width: int, context: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.keys_values = nn.Linear(context, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x, context):
        b, n, width = x.shape
        m = context.shape[1]
        q = self.query(x).view(b, n, self.heads, width // self.heads).transpose(1, 2)
        kv = self.keys_values(context).view(b, m, 2, self.heads, width // self.heads)
        mixed = F.scaled_dot_product_attention(q, kv[:, :, 0].transpose(1, 2), kv[:, :, 1].transpose(1, 2))
        return self.out(mixed.transpose(1, 2).reshape(b, n, width))


class Mlp(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class EncoderBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm_attention, self.attention = nn.LayerNorm(width), Attention(width, width, heads)
        self.norm_mlp, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, x):
        y = self.norm_attention(x)
        x = x + self.attention(y, y)
        return x + self.mlp(self.norm_mlp(x))


class DecoderBlock(nn.Module):
    def __init__(self, width: int, context: int, heads: int):
        super().__init__()
        self.norm_cross, self.cross = nn.LayerNorm(width), Attention(width, context, heads)
        self.norm_attention, self.attention = nn.LayerNorm(width), Attention(width, width, heads)
        self.norm_mlp, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, x, context):
        x = x + self.cross(self.norm_cross(x), context)
        y = self.norm_attention(x)
        x = x + self.attention(y, y)
        return x + self.mlp(self.norm_mlp(x))


class Convolution(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x):
        return F.silu(self.norm(self.conv(x)))


def enlarged(x: torch.Tensor, factor: float) -> torch.Tensor:
    """Bilinear, corners not aligned."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class Core(nn.Module):
    """Pictures to features, features and points to logits and colours, in the camera's box."""

    # TorchScript reads constants off the class alone.
    depth_half: Final[float] = DEPTH_HALF
    plane: Final[int] = PLANE
    map: Final[int] = MAP
    depths: Final[int] = DEPTHS
    width: Final[int] = WIDTH
    decoder_width: Final[int] = DECODER_WIDTH
    depth_scales: Final[Tuple[float, float, float]] = DEPTH_SCALES

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 257, WIDTH) * 0.02)
        self.summary = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.plane_tokens = nn.Parameter(torch.randn(1, 768, DECODER_WIDTH) * 0.02)
        self.stem_half = nn.Sequential(Convolution(3, 32, 2), Convolution(32, 32))
        self.stem_quarter = nn.Sequential(Convolution(32, 64, 2), Convolution(64, 64))
        self.patch = nn.Conv2d(64, WIDTH, 3, 3)
        self.encoder = nn.ModuleList([EncoderBlock(WIDTH, HEADS) for _ in range(DEPTH)])
        self.encoder_norm = nn.LayerNorm(WIDTH)
        self.camera_head = nn.Sequential(nn.Linear(WIDTH, 128), nn.SiLU(), nn.Linear(128, CAMERA))
        self.picture_to_plane = nn.Linear(WIDTH, DECODER_WIDTH)
        self.decoder = nn.ModuleList([DecoderBlock(DECODER_WIDTH, WIDTH, DECODER_HEADS) for _ in range(DECODER_DEPTH)])
        self.decoder_norm = nn.LayerNorm(DECODER_WIDTH)
        self.plane_up1, self.plane_conv1 = nn.ConvTranspose2d(DECODER_WIDTH, 128, 2, 2), Convolution(128, 128)
        self.plane_up2, self.plane_conv2 = nn.ConvTranspose2d(128, 64, 2, 2), Convolution(64, 64)
        self.plane_out = nn.Conv2d(64, PLANE, 1)
        self.map_in = nn.Conv2d(WIDTH, 128, 1)
        self.map_conv1, self.map_conv2 = Convolution(128 + 64, 64), Convolution(64 + 32, 32)
        self.map_out, self.mask_out, self.depth_out = nn.Conv2d(32, MAP, 1), nn.Conv2d(32, 1, 1), nn.Linear(32, DEPTHS)
        self.field_in = nn.Linear(3 * PLANE + MAP + 6 + DEPTHS * len(DEPTH_SCALES), 128)
        self.field_mid1, self.field_mid2 = nn.Linear(128, 128), nn.Linear(128, 128)
        self.field_out = nn.Linear(128, 4)

    def stem(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Pictures [B, 3, 192, 192] to feature maps [B, 32, 96, 96] and [B, 64, 48, 48]."""
        half = self.stem_half((images - 0.5) * 4.0)
        return half, self.stem_quarter(half)

    def raise_planes(self, tokens: torch.Tensor) -> torch.Tensor:
        """Plane tokens [3B, 256, 256] to planes [3B, 32, 64, 64]."""
        planes = tokens.view(-1, 16, 16, self.decoder_width).permute(0, 3, 1, 2)
        return self.plane_out(self.plane_conv2(self.plane_up2(self.plane_conv1(self.plane_up1(planes)))))

    def pixels(self, grid: torch.Tensor, quarter: torch.Tensor, half: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """The pixel map with its depths [B, 34, 96, 96] and mask logits [B, 1, 96, 96], from picture tokens [B, 256, 384]."""
        low = self.map_in(grid.transpose(1, 2).reshape(-1, self.width, 16, 16))
        middle = self.map_conv1(torch.cat([enlarged(low, 3.0), quarter], 1))
        high = self.map_conv2(torch.cat([enlarged(middle, 2.0), half], 1))
        # Products and sums, since a layer would be rounded to bfloat16 in training, which is too coarse for a depth.
        weight = self.depth_out.weight.float().view(1, self.depths, 32, 1, 1)
        depths = (high.float().unsqueeze(1) * weight).sum(2) + self.depth_out.bias.float().view(1, self.depths, 1, 1)
        return torch.cat([self.map_out(high).float(), depths], 1), self.mask_out(high)

    def features(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Planes [3B, 32, 64, 64], pixel map with depths [B, 34, 96, 96], camera [B, 5], mask logits [B, 1, 96, 96]."""
        b = images.shape[0]
        half, quarter = self.stem(images)
        tokens = self.patch(quarter).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.summary.to(tokens.dtype).expand(b, -1, -1), tokens], 1) + self.position.to(tokens.dtype)
        for block in self.encoder:
            tokens = block(tokens)
        tokens = self.encoder_norm(tokens)
        camera = self.camera_head(tokens[:, 0]).float()
        grid = tokens[:, 1:]
        planes = self.plane_tokens.to(tokens.dtype).expand(b, -1, -1)
        planes = torch.cat([planes[:, :256] + self.picture_to_plane(grid), planes[:, 256:]], 1)
        for block in self.decoder:
            planes = block(planes, tokens)
        pixel_map, mask = self.pixels(grid, quarter, half)
        return self.raise_planes(self.decoder_norm(planes).view(b * 3, 256, self.decoder_width)), pixel_map, camera, mask

    def project(self, camera: torch.Tensor, points: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Where points of the box [B, N, 3] fall: on the three planes [B, 3, N, 2], and the relative distance w [B, N].

        The first plane's coordinates are the pixel's, and so the map's.
        """
        x, down, z = points[:, :, 0], -points[:, :, 1], points[:, :, 2]
        # Distance from the camera relative to that of the crop's plane; kept off zero and of sane strength.
        w = (1.0 - z * self.depth_half * camera[:, 1:2].clamp(0.05, 0.6)).clamp(min=0.15)
        return torch.stack([torch.stack([x / w, down / w], 2), torch.stack([x, z], 2), torch.stack([z, down], 2)], 1), w

    def field(self, planes: torch.Tensor, pixels: torch.Tensor, points: torch.Tensor, uv: torch.Tensor,
              w: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Logits [B, N] and colours before the sigmoid [B, N, 3] from what was sampled: planes [B, N, 96], pixels [B, N, 34]."""
        dtype = self.field_in.weight.dtype
        parts = [planes.to(dtype), pixels[:, :, :self.map].to(dtype), points.to(dtype), uv.clamp(-1.5, 1.5).to(dtype), w.unsqueeze(2).to(dtype)]
        past = points[:, :, 2:] - pixels[:, :, self.map:].float()
        for scale in self.depth_scales:
            parts.append(torch.tanh(past * scale).to(dtype))
        y = F.silu(self.field_in(torch.cat(parts, 2)))
        y = F.silu(self.field_mid1(y))
        y = F.silu(self.field_mid2(y))
        y = self.field_out(y).float()
        return y[:, :, 0], y[:, :, 1:]

    def sampled(self, planes: torch.Tensor, pixel_map: torch.Tensor, where: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Features at projected points: of the planes [B, N, 96] and of the map, whatever its channels [B, N, C]."""
        b, n = where.shape[0], where.shape[2]
        f = F.grid_sample(planes.float(), where.view(b * 3, 1, n, 2), mode="bilinear", padding_mode="border", align_corners=False)
        h = F.grid_sample(pixel_map.float(), where[:, :1], mode="bilinear", padding_mode="border", align_corners=False)
        return f.view(b, 3 * self.plane, n).transpose(1, 2), h.view(b, pixel_map.shape[1], n).transpose(1, 2)

    def decode(self, planes: torch.Tensor, pixel_map: torch.Tensor, camera: torch.Tensor,
               points: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Logits [B, N] and colours before the sigmoid [B, N, 3] at points of the box [B, N, 3]."""
        where, w = self.project(camera, points)
        f, h = self.sampled(planes, pixel_map, where)
        return self.field(f, h, points, where[:, 0], w)


class Served(nn.Module):
    """The contract `implicit-field/1` around the core; codes are one flat row a picture: planes, pixels, mask, camera.

    `pixels` are the core's and one channel more: what is added to the logits along the pixel's ray, so that thin parts
    whose depth is uncertain, and whose occupancy is spread until it reaches the surface's level nowhere, stay whole.
    """

    depth_half: Final[float] = DEPTH_HALF
    span: Final[float] = SPAN
    outside: Final[float] = OUTSIDE
    plane: Final[int] = PLANE
    plane_side: Final[int] = PLANE_SIDE
    pixels: Final[int] = MAP + DEPTHS
    map_side: Final[int] = MAP_SIDE
    camera: Final[int] = CAMERA
    ray_mask: Final[float] = RAY_MASK
    fill: Final[float] = FILL
    fill_most: Final[float] = FILL_MOST
    ray_steps: Final[int] = RAY_STEPS
    ray_margin: Final[float] = RAY_MARGIN

    def __init__(self, core: Core):
        super().__init__()
        self.core = core

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.encode(images)

    def lacking(self, planes: torch.Tensor, pixel_map: torch.Tensor, camera: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What each pixel's ray lacks to meet the object, 0 where it does or needn't: f32 [B, 96 * 96]."""
        b, side = mask.shape[0], self.map_side
        sure = torch.sigmoid(mask.float()).flatten(1) > self.ray_mask
        rays = torch.arange(side * side, device=mask.device)
        if not mask.is_cuda:
            # A GPU would have to wait to learn how many rays are wanted, and has time for all.
            rays = rays[sure.any(0)]
        u = ((rays % side) + 0.5) * (2.0 / side) - 1.0
        v = (torch.div(rays, side, rounding_mode="floor") + 0.5) * (2.0 / side) - 1.0
        depths = pixel_map[:, -2:].float().flatten(2)[:, :, rays].unsqueeze(3)
        near, far = depths[:, 0] + self.ray_margin, depths[:, 1] - self.ray_margin
        strength = camera[:, 1].clamp(0.05, 0.6).view(b, 1, 1)
        greatest = torch.full([b, len(rays)], self.outside, device=mask.device)
        # A few depths at a time, which keeps memory small, and on a CPU in its caches.
        for first in range(0, self.ray_steps, 4):
            share = (torch.arange(4, device=mask.device, dtype=torch.float32) + (first + 0.5)) / self.ray_steps
            z = far + (near - far).clamp(min=0.0) * share
            w = (1.0 - z * self.depth_half * strength).clamp(min=0.15)
            points = torch.stack([u.unsqueeze(1) * w, -v.unsqueeze(1) * w, z], -1).view(b, 4 * len(rays), 3)
            logits = self.core.decode(planes, pixel_map, camera, points)[0]
            greatest = torch.maximum(greatest, logits.view(b, len(rays), 4).amax(2))
        lack = self.fill - greatest
        lack = torch.where(lack < self.fill_most, lack.clamp(min=0.0), torch.zeros_like(lack))
        return torch.zeros([b, side * side], device=mask.device).index_copy(1, rays, lack) * sure.float()

    @torch.jit.export
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        dtype = self.core.position.dtype
        planes, pixel_map, camera, mask = self.core.features(images.to(dtype))
        b = images.shape[0]
        lack = self.lacking(planes, pixel_map, camera, mask)
        return torch.cat([planes.reshape(b, -1), pixel_map.reshape(b, -1).to(planes.dtype), lack.to(planes.dtype),
                          mask.reshape(b, -1).to(planes.dtype), camera.to(planes.dtype)], 1)

    @torch.jit.export
    def query(self, codes: torch.Tensor, points: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        b = codes.shape[0]
        area = self.map_side * self.map_side
        first = 3 * self.plane * self.plane_side * self.plane_side
        second = first + (self.pixels + 1) * area
        camera = codes[:, -self.camera:].float()
        c, s = torch.cos(camera[:, :1]), torch.sin(camera[:, :1])
        p = points.float() * self.span
        x, y, z = p[:, :, 0], p[:, :, 1], p[:, :, 2]
        turned = torch.stack([x, y * c - z * s, (y * s + z * c) / self.depth_half], -1)
        inside = (turned.abs() <= 1.0).all(-1)
        planes = codes[:, :first].reshape(b * 3, self.plane, self.plane_side, self.plane_side)
        pixels = codes[:, first:second].reshape(b, self.pixels + 1, self.map_side, self.map_side)
        where, w = self.core.project(camera, turned)
        of_planes, of_pixels = self.core.sampled(planes, pixels, where)
        logits, colours = self.core.field(of_planes, of_pixels[:, :, :self.pixels], turned, where[:, 0], w)
        logits = logits + of_pixels[:, :, self.pixels]
        return torch.where(inside, logits, torch.full_like(logits, self.outside)), torch.sigmoid(colours)

    @torch.jit.export
    def matte(self, images: torch.Tensor) -> torch.Tensor:
        mask = self.core.features(images.to(self.core.position.dtype))[3]
        alpha = torch.sigmoid(mask.float())
        return F.interpolate(alpha, [images.shape[2], images.shape[3]], mode="bilinear", align_corners=False)


# The first model's names for the same parts.
_FIRST_NAMES = {
    "pos": "position", "cls": "summary", "tpos": "plane_tokens", "s1": "stem_half", "s2": "stem_quarter", "patch": "patch",
    "enc": "encoder", "en": "encoder_norm", "cam": "camera_head", "xy": "picture_to_plane", "dec": "decoder", "dn": "decoder_norm",
    "u1": "plane_up1", "c1": "plane_conv1", "u2": "plane_up2", "c2": "plane_conv2", "c3": "plane_out", "i0": "map_in",
    "i1": "map_conv1", "i2": "map_conv2", "i3": "map_out", "mk": "mask_out", "m0": "field_in", "m1": "field_mid1",
    "m2": "field_mid2", "mo": "field_out"}
_FIRST_PARTS = {"n1": "norm_attention", "at": "attention", "n2": "norm_mlp", "n3": "norm_cross", "ca": "cross", "q": "query",
                "kv": "keys_values", "o": "out", "a": "up", "b": "down", "c": "conv", "n": "norm"}


def _translate(name):
    """The first model's parameter name in ours; int8 parts end in `.w`, `.s` and `.b` there."""
    head, *rest = name.split(".")
    leaf = {"w": "weight", "s": "scale", "b": "bias"}.get(rest[-1], rest[-1]) if rest else None
    middle = [_FIRST_PARTS.get(part, part) for part in rest[:-1]]
    return ".".join([_FIRST_NAMES[head], *middle, *([leaf] if leaf else [])])


def load_weights(core, path):
    """Fills the core from an exported model (ours or the first one), or from a checkpoint, whole or in parts."""
    path = pathlib.Path(path)
    parts = [path] if path.exists() else sorted(path.parent.glob(path.name + ".*"))
    if not parts:
        raise FileNotFoundError(path)
    whole = b"".join(part.read_bytes() for part in parts)
    try:
        state = torch.jit.load(io.BytesIO(whole), map_location="cpu").state_dict()
        state = {k.removeprefix("core."): v for k, v in state.items()}
    except RuntimeError:
        state = torch.load(io.BytesIO(whole), map_location="cpu", weights_only=True)["weights"]
    if "pos" in state:
        state = {_translate(k): v for k, v in state.items()}
    for key in [k for k in state if k.endswith(".scale")]:
        weight = key.removesuffix("scale") + "weight"
        state[weight] = state[weight].float() * state.pop(key).float()[:, None]
    # Weights from before the depths were known: the new inputs and outputs begin at nothing.
    own = core.state_dict()
    for key in ("field_in.weight", "depth_out.weight", "depth_out.bias"):
        old = state.get(key, torch.zeros(0))
        if old.shape != own[key].shape:
            state[key] = torch.zeros_like(own[key])
            if old.numel():
                state[key][:, :old.shape[1]] = old
    core.load_state_dict({k: v.float() for k, v in state.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--init")
    args = parser.parse_args()
    core = Core()
    if args.init:
        load_weights(core, args.init)
    print(f"{sum(p.numel() for p in core.parameters()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
