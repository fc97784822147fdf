"""What every peer asks of the model: the GPU's half of a conversion, and the work of a batch as the two servers do it.

    model = Model(folder, "cuda", half=True)
    codes = model.encode(pictures)
    volume = sample_field_sparse(model, codes[:1], 256)
"""

import argparse
import concurrent.futures
import functools
import math
import multiprocessing
import os
import pathlib
import threading

import numpy as np
import torch
import torch.nn.functional as F

import work

# The server's slope: a cell whose corners are farther from the surface than this, times half its diagonal, holds none of it.
LOGIT_SLOPE = 6.0
COARSE_CELLS = 32
DTYPES = {"half": torch.half, "bfloat16": torch.bfloat16, "float32": torch.float32}


class Model:
    """A TorchScript file of the contract `implicit-field/1`, in float32 or in the manifest's precision for a GPU."""

    def __init__(self, folder: pathlib.Path, device: str, half: bool):
        # As the server: no compiling anew by the shapes of the first calls.
        torch._C._jit_set_profiling_mode(False)
        torch._C._jit_set_texpr_fuser_enabled(False)
        self.manifest = work.Manifest.read(folder)
        self.device = torch.device(device)
        if self.device.type == "cpu":
            # As the server: half of the cores, for OpenMP's threads that compete for a core only wait for one another.
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
        dtype = DTYPES[self.manifest.cuda_dtype] if half and self.device.type == "cuda" else torch.float32
        self.module = torch.jit.load(str(self.manifest.file), map_location="cpu").to(dtype).to(self.device).eval()
        self.points_per_pass = self.manifest.cuda_points if self.device.type == "cuda" else self.manifest.cpu_points

    def encode(self, pictures: list[np.ndarray]) -> torch.Tensor:
        return self.module.encode(torch.from_numpy(np.stack(pictures)).to(self.device))

    def logits(self, codes: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """One row of codes at points [N, 3] -> [N]."""
        return torch.cat([self.module.query(codes, part[None])[0][0].float() for part in points.split(self.points_per_pass)])

    def colours(self, codes: torch.Tensor, positions: np.ndarray) -> np.ndarray:
        """The field's colours at vertices [V, 3]: f32 [V, 3]."""
        points = torch.from_numpy(positions).to(self.device)
        parts = [self.module.query(codes, part[None])[1][0].float() for part in points.split(self.points_per_pass)]
        return torch.cat(parts).cpu().numpy()


def closed(volume: torch.Tensor, iso: float) -> torch.Tensor:
    """The border of the volume made outside, so that every surface is closed."""
    for axis in range(3):
        for end in (0, -1):
            face = volume.select(axis, end)
            face.copy_(torch.minimum(face, 2 * iso - face))
    return volume


def sample_field_dense(model: Model, codes: torch.Tensor, resolution: int) -> torch.Tensor:
    """Logits [R, R, R] along x, y and z of every sample of the cube."""
    axis = torch.linspace(-1, 1, resolution, device=model.device)
    points = torch.cartesian_prod(axis, axis, axis)
    return closed(model.logits(codes, points).view(resolution, resolution, resolution), model.manifest.iso)


def cell_max(values: torch.Tensor) -> torch.Tensor:
    """The greatest corner of each cell."""
    return F.max_pool3d(values[None, None], 2, 1)[0, 0]


def corners(cells: torch.Tensor) -> torch.Tensor:
    """The samples at the corners of the cells of a mask."""
    return F.max_pool3d(F.pad(cells[None, None].float(), [1] * 6), 2, 1)[0, 0] > 0


def sample_field_sparse(model: Model, codes: torch.Tensor, resolution: int) -> torch.Tensor:
    """The same from coarse to fine: cells that may hold the surface are halved until they are one sample wide.

    Samples elsewhere repeat a coarse one, whose side of the surface they are on.
    """
    iso, device, last = model.manifest.iso, model.device, resolution - 1
    axis = torch.linspace(-1, 1, resolution, device=device)
    step = 1 << max(0, round(math.log2(last / COARSE_CELLS)))
    at = (torch.arange(-(-last // step) + 1, device=device) * step).clamp(max=last)
    values = model.logits(codes, axis[torch.cartesian_prod(at, at, at)]).view(len(at), len(at), len(at))
    known = torch.ones_like(values, dtype=torch.bool)
    while step > 1:
        crossed = (cell_max(values) > iso) & (cell_max(-values) >= -iso)
        margin = LOGIT_SLOPE * step * 3**0.5 / last
        close = (cell_max(-(values - iso).abs()) > -margin) & (cell_max((~known).float()) == 0)
        step //= 2
        coarse_at, fine = at, torch.arange(-(-last // step) + 1, device=device)
        at = (fine * step).clamp(max=last)
        half = fine // 2
        split = (crossed | close)[half[:-1]][:, half[:-1]][:, :, half[:-1]]
        # A fine sample lies on a coarse one, or repeats the one before it.
        same = coarse_at[(fine + 1) // 2] == at
        source = torch.where(same, (fine + 1) // 2, half)
        values = values[source][:, source][:, :, source]
        known = known[source][:, source][:, :, source] & same[:, None, None] & same[:, None] & same
        missing = (corners(split) & ~known).nonzero()
        values[tuple(missing.T)] = model.logits(codes, axis[at[missing]])
        known[tuple(missing.T)] = True
    # Where the surface leaves the cells that were looked at, it is followed until it closes.
    while True:
        crossed = (cell_max(values) > iso) & (cell_max(-values) >= -iso)
        missing = (corners(crossed) & ~known).nonzero()
        if not len(missing):
            return closed(values, iso)
        values[tuple(missing.T)] = model.logits(codes, axis[missing])
        known[tuple(missing.T)] = True


def cropped(volume: torch.Tensor, iso: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of a volume round what is inside, on the processor, and the index of its first sample."""
    inside = volume > iso
    bounds = []
    for axis in range(3):
        along = inside.amax([other for other in range(3) if other != axis])
        bounds.append(along.nonzero().flatten()[[0, -1]])
    bounds = torch.stack(bounds).cpu().numpy()
    low, high = (bounds[:, 0] - 1).clip(0), bounds[:, 1] + 2
    part = volume[low[0]:high[0], low[1]:high[1], low[2]:high[2]]
    return part.contiguous().cpu().numpy(), low


def add_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("--model", type=pathlib.Path, required=True, help="folder with model.toml")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resolution", type=int, default=256)


def add_serving_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8, help="the largest batch")
    parser.add_argument("--wait-ms", type=float, default=5.0, help="the longest that a batch waits for company")
    parser.add_argument("--workers", type=int, default=2, help="batches at a time")
    parser.add_argument("--dense", action="store_true", help="the dense grid instead of coarse to fine")


def pool_size(workers: int) -> int:
    """Processes for one of so many workers: all cores but two, which drive the GPU and the network."""
    return max(1, ((os.cpu_count() or 1) - 2) // workers)


class Worker:
    """Batches of conversions as a peer does them: framing and marching cubes on a pool of processes, the GPU meanwhile at the next picture.

    To be made before anything runs on the GPU, for the pool's processes are forked.
    """

    def __init__(self, args: argparse.Namespace, processes: int):
        self.pool = multiprocessing.get_context("fork").Pool(processes)
        self.threads = concurrent.futures.ThreadPoolExecutor(4)
        self.model = Model(args.model, args.device, half=True)
        self.resolution = args.resolution
        self.sample = sample_field_dense if args.dense else sample_field_sparse
        manifest = self.model.manifest
        self.frame = functools.partial(work.frame, side=manifest.side, background=manifest.background, fill=manifest.fill)
        self.local = threading.local()

    def stream(self):
        """A stream for each thread, so that two batches overlap on the GPU."""
        if not hasattr(self.local, "stream"):
            self.local.stream = torch.cuda.Stream() if self.model.device.type == "cuda" else None
        return torch.cuda.stream(self.local.stream)

    def convert(self, files: list[bytes]) -> list[bytes]:
        """Pictures' files -> GLB files."""
        iso, step = self.model.manifest.iso, 2.0 / (self.resolution - 1)
        framed = self.pool.map(self.frame, files, chunksize=1)
        with torch.inference_mode(), self.stream():
            codes = self.model.encode(framed)
            surfaces = []
            for row in codes.split(1):
                volume, low = cropped(self.sample(self.model, row, self.resolution), iso)
                surfaces.append(self.pool.apply_async(work.surface, (volume, iso, low * step - 1.0, step)))
            written = []
            for row, result in zip(codes.split(1), surfaces):
                positions, normals, triangles = result.get()
                written.append(self.threads.submit(work.glb, positions, normals, triangles, self.model.colours(row, positions)))
            return [each.result() for each in written]
