"""The model behind NVIDIA Triton's dynamic batcher, by PyTriton: a picture's bytes -> a GLB's, over HTTP.

    python serve_triton.py --model MODEL --port 8001 --batch 8 --wait-ms 5 --workers 2
"""

import argparse
import logging
import signal
import sys

import numpy as np
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

import field


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    field.add_arguments(parser)
    field.add_serving_arguments(parser)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    worker = field.Worker(args, field.pool_size(1))
    # By an exit, so that the server itself, a process of another session, is stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def infer(requests):
        files = [request["picture"][0, 0] for request in requests]
        size = np.array([[len(files)]], np.int32)
        return [{"mesh": np.frombuffer(file, np.uint8)[None], "batch": size} for file in worker.convert(files)]

    config = TritonConfig(http_address="127.0.0.1", http_port=args.port, grpc_address="127.0.0.1", grpc_port=args.port + 1,
                          allow_metrics=False, exit_timeout_secs=1)
    with Triton(config=config) as triton:
        # Each of the callables is an instance of the model, with a thread of its own.
        triton.bind("conversion", [infer] * args.workers, inputs=[Tensor(name="picture", dtype=bytes, shape=(1,))],
                    outputs=[Tensor(name="mesh", dtype=np.uint8, shape=(-1,)), Tensor(name="batch", dtype=np.int32, shape=(1,))],
                    config=ModelConfig(max_batch_size=args.batch,
                                       batcher=DynamicBatcher(max_queue_delay_microseconds=int(args.wait_ms * 1000))))
        triton.serve()


if __name__ == "__main__":
    main()
