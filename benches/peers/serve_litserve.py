"""The model behind LitServe with its batching: POST /predict, a picture in base64 in JSON -> a GLB.

    python serve_litserve.py --model MODEL --port 8001 --batch 8 --wait-ms 5 --workers 2
"""

import argparse
import base64
import logging

import litserve
from fastapi import Response

import field


class Conversion(litserve.LitAPI):
    def __init__(self, args: argparse.Namespace):
        super().__init__(max_batch_size=args.batch, batch_timeout=args.wait_ms / 1000.0)
        self.args = args

    def setup(self, device: str):
        self.worker = field.Worker(self.args, field.pool_size(self.args.workers))

    def decode_request(self, request: dict) -> bytes:
        return base64.b64decode(request["picture"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, files: list[bytes]) -> list[tuple[bytes, int]]:
        # Without batching LitServe gives one input as it is.
        several = files if isinstance(files, list) else [files]
        made = [(file, len(several)) for file in self.worker.convert(several)]
        return made if isinstance(files, list) else made[0]

    def unbatch(self, output: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        return output

    def encode_response(self, output: tuple[bytes, int]) -> Response:
        file, batch = output
        return Response(content=file, media_type="model/gltf-binary", headers={"x-batch": str(batch)})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    field.add_arguments(parser)
    field.add_serving_arguments(parser)
    args = parser.parse_args()
    logging.getLogger("litserve").setLevel(logging.WARNING)
    # The worker takes the device from the arguments, so LitServe's own choice, one device, has no say but in the count.
    server = litserve.LitServer(Conversion(args), accelerator="cpu" if args.device == "cpu" else "cuda", devices=1,
                                workers_per_device=args.workers, timeout=False)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
