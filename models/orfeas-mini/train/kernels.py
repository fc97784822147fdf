"""Builds kernels.cu (nvcc for CUDA, g++ for the CPU) and calls it on torch tensors."""

import ctypes
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import torch

SOURCE = pathlib.Path(__file__).with_name("kernels.cu")
_loaded = {}


def _build(cuda):
    tag = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    target = pathlib.Path(tempfile.gettempdir()) / f"orfeas-kernels-{'cuda' if cuda else 'cpu'}-{tag}.so"
    if target.exists():
        return target
    partial = target.with_suffix(f".{os.getpid()}")  # several processes may build at once
    if cuda:
        compiler = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
        major, minor = torch.cuda.get_device_capability()
        command = [compiler, "-O3", "--use_fast_math", f"-arch=sm_{major}{minor}", "-Xcompiler", "-fPIC"]
    else:
        command = ["g++", "-O2", "-x", "c++", "-fPIC"]
    subprocess.run([*command, "-shared", str(SOURCE), "-o", str(partial)], check=True)
    partial.rename(target)
    return target


def _argument(value):
    if value is None:
        return ctypes.c_void_p(0)
    if isinstance(value, torch.Tensor):
        assert value.is_contiguous(), "kernels read dense tensors"
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_float(value)
    if isinstance(value, Long):
        return ctypes.c_long(value)
    return ctypes.c_int(value)


class Long(int):
    """An integer that the kernel takes as `long`."""


def call(name, *arguments, device):
    """Runs the entry point `name` on `device`'s current stream; the tensors must outlive the call's work."""
    cuda = torch.device(device).type == "cuda"
    if cuda not in _loaded:
        _loaded[cuda] = ctypes.CDLL(str(_build(cuda)))
    stream = torch.cuda.current_stream().cuda_stream if cuda else 0
    code = getattr(_loaded[cuda], name)(*map(_argument, arguments), ctypes.c_void_p(stream))
    if code != 0:
        raise RuntimeError(f"kernel {name} failed with CUDA error {code}")
