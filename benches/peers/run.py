"""Starts each peer, drives it with concurrent clients, and prints conversions a second, latencies and batch sizes.

    python benches/peers/run.py --model models/orfeas-mini --pictures examples/pictures --resolution 64 --conversions 16 --at-once 4
"""

import argparse
import base64
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import sysconfig
import threading
import time

import torch

import work

HERE = pathlib.Path(__file__).resolve().parent
START_SECONDS_MAX = 300
STOP_SECONDS_MAX = 20


class Client:
    """A connection of one thread to a peer."""

    def __init__(self, port: int):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] = {}) -> tuple[int, dict[str, str], bytes]:
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def converted(self, file: bytes) -> tuple[bytes, int]:
        """The picture's GLB and the size of the batch that it was in."""
        status, headers, body = self.ask("POST", self.path, *self.request(file))
        if status != 200:
            raise RuntimeError(f"{type(self).__name__}: {status} {body[:500]!r}")
        mesh, batch = self.result(headers, body)
        if mesh[:4] != b"glTF" or len(mesh) != struct.unpack_from("<I", mesh, 8)[0]:
            raise RuntimeError(f"{type(self).__name__}: not a GLB: {mesh[:100]!r}")
        return mesh, batch


class LitServe(Client):
    script, ready, path = "serve_litserve.py", "/health", "/predict"

    def request(self, file: bytes) -> tuple[bytes, dict[str, str]]:
        return json.dumps({"picture": base64.b64encode(file).decode()}).encode(), {"content-type": "application/json"}

    def result(self, headers: dict[str, str], body: bytes) -> tuple[bytes, int]:
        return body, int(headers["x-batch"])


class Triton(Client):
    """By the protocol's binary extension: JSON, whose length a header tells, and the tensors' bytes after it."""

    script, ready, path = "serve_triton.py", "/v2/models/conversion/ready", "/v2/models/conversion/infer"
    LENGTH = "inference-header-content-length"

    def request(self, file: bytes) -> tuple[bytes, dict[str, str]]:
        picture = struct.pack("<I", len(file)) + file
        head = json.dumps({"inputs": [{"name": "picture", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(picture)}}],
                           "parameters": {"binary_data_output": True}}).encode()
        return head + picture, {self.LENGTH: str(len(head)), "content-type": "application/octet-stream"}

    def result(self, headers: dict[str, str], body: bytes) -> tuple[bytes, int]:
        at, tensors = int(headers[self.LENGTH]), {}
        for output in json.loads(body[:at])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            tensors[output["name"]], at = body[at:at + size], at + size
        return tensors["mesh"], struct.unpack("<i", tensors["batch"])[0]


SERVERS = {"litserve": LitServe, "triton": Triton}


def environment() -> dict[str, str]:
    """Ours, and this Python's own library in reach: Triton's stub needs it, and may find another's or none."""
    folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if not name or ".so" not in name or not (pathlib.Path(folder) / name).exists():
        return dict(os.environ)
    paths = [folder, os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(path for path in paths if path)}


@contextlib.contextmanager
def running(kind: type[Client], args: argparse.Namespace):
    """A peer's server that answers, stopped in the end with all its processes."""
    command = [sys.executable, str(HERE / kind.script), *common(args), "--port", str(args.port), "--batch", str(args.batch),
               "--wait-ms", str(args.wait_ms), "--workers", str(args.workers), *(["--dense"] if args.dense else [])]
    process = subprocess.Popen(command, stdout=sys.stderr, env=environment(), start_new_session=True)
    try:
        until = time.monotonic() + START_SECONDS_MAX
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if kind(args.port).ask("GET", kind.ready)[0] == 200:
                    break
            if process.poll() is not None:
                raise RuntimeError(f"{kind.script} ended with {process.returncode}")
            if time.monotonic() > until:
                raise RuntimeError(f"{kind.script} isn't ready after {START_SECONDS_MAX} s")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS_MAX)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def common(args: argparse.Namespace) -> list[str]:
    return ["--model", str(args.model), "--device", args.device, "--resolution", str(args.resolution)]


def summary(peer: str, at_once: int, seconds: list[float], took: float, batches: list[int], size: int) -> dict:
    ordered = sorted(seconds)
    at = lambda share: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4)  # noqa: E731
    return {"peer": peer, "at_once": at_once, "conversions": len(seconds), "per_second": round(len(seconds) / took, 3), "p50_s": at(0.5),
            "p95_s": at(0.95), "p99_s": at(0.99), "mean_batch": round(len(batches) / sum(1 / batch for batch in batches), 2), "glb_bytes": size}


def drive(kind: type[Client], args: argparse.Namespace, files: list[bytes], count: int, at_once: int) -> tuple[list[float], float, list[int], int]:
    """So many conversions by so many clients, each of which sends its next picture when it has its last mesh."""
    local = threading.local()

    def one(number: int) -> tuple[float, int, int]:
        if not hasattr(local, "client"):
            local.client = kind(args.port)
        began = time.perf_counter()
        mesh, batch = local.client.converted(files[number % len(files)])
        return time.perf_counter() - began, batch, len(mesh)

    with concurrent.futures.ThreadPoolExecutor(at_once) as clients:
        began = time.perf_counter()
        seconds, batches, sizes = zip(*clients.map(one, range(count)))
        return list(seconds), time.perf_counter() - began, list(batches), sizes[-1]


def loop(args: argparse.Namespace) -> dict:
    count = args.loop_conversions or args.conversions
    command = [sys.executable, str(HERE / "serve_loop.py"), *common(args), "--pictures", str(args.pictures), "--conversions", str(count)]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return summary("loop", 1, found["seconds"], sum(found["seconds"]), [1] * count, found["glb_bytes"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="folder with model.toml")
    parser.add_argument("--pictures", type=pathlib.Path, required=True, help="folder of pictures, taken in turn")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--conversions", type=int, default=200, help="measured ones, for each number at once")
    parser.add_argument("--loop-conversions", type=int, help="for the loop, which is slow; default: as many")
    parser.add_argument("--warmup", type=int, help="conversions before measuring; default: four for each at once")
    parser.add_argument("--at-once", default="16", help="concurrent clients; several numbers with commas, one after another")
    parser.add_argument("--peers", default="loop,litserve,triton")
    parser.add_argument("--batch", type=int, default=8, help="the peers' largest batch")
    parser.add_argument("--wait-ms", type=float, default=5.0, help="the longest that a batch waits for company")
    parser.add_argument("--workers", type=int, default=2, help="LitServe: processes on the device; Triton: instances")
    parser.add_argument("--dense", action="store_true", help="the servers sample the dense grid, too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--port", type=int, default=8411, help="and the one after it")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    files = work.pictures(args.pictures)
    rows = []

    def done(row: dict):
        rows.append(row)
        if not args.json:
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)

    for peer in args.peers.split(","):
        if peer == "loop":
            done(loop(args))
            continue
        with running(SERVERS[peer], args):
            for at_once in map(int, args.at_once.split(",")):
                drive(SERVERS[peer], args, files, args.warmup or 4 * at_once, at_once)
                done(summary(peer, at_once, *drive(SERVERS[peer], args, files, args.conversions, at_once)))
    if args.json:
        device = torch.cuda.get_device_name() if args.device.startswith("cuda") else "cpu"
        options = {name: getattr(args, name) for name in ("resolution", "batch", "wait_ms", "workers", "dense")}
        print(json.dumps({"device": device, "cores": os.cpu_count(), "model": args.model.name, **options, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
