"""Bilinear sampling of channels-last features in training, forwards and backwards.

The same values as `grid_sample` (zeros never: the border is repeated; corners not aligned). Threads of a warp read and add
neighbouring channels of one point, which the backward pass, all atomic additions, gains much from.
"""

import torch

import kernels
from kernels import Long


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, where):
        rows, height, width, channels = features.shape
        count = where.shape[1]
        out = torch.empty(rows, count, channels, device=features.device)
        kernels.call("sample", features, where, out, Long(rows), Long(count), height, width, channels, device=features.device)
        ctx.save_for_backward(where)
        ctx.shape = features.shape
        return out

    @staticmethod
    def backward(ctx, grad):
        where, = ctx.saved_tensors
        rows, height, width, channels = ctx.shape
        total = torch.zeros(ctx.shape, device=grad.device)
        kernels.call("sample_back", grad.contiguous(), where, total, Long(rows), Long(where.shape[1]), height, width, channels, device=grad.device)
        return total, None


def sample(features, where):
    """Features [R, C, H, W] at points [R, N, 2] in -1..1: float32 [R, N, C]. No gradient flows to the points."""
    dense = features.permute(0, 2, 3, 1).float().contiguous()
    return _Sample.apply(dense, where.detach().float().contiguous())


def sampled(planes, pixel_map, where):
    """What `model.Core.sampled` gives, by these kernels."""
    b, _, n, _ = where.shape
    of_planes = sample(planes, where.reshape(b * 3, n, 2)).view(b, 3, n, -1)
    return of_planes.transpose(1, 2).reshape(b, n, -1), sample(pixel_map, where[:, 0])
