"""Compares the exported TripoSR with the published implementation, on the same weights and the same picture.

    python compare.py --reference CLONE_OF_TRIPOSR

Needs what the published code imports to run its network: transformers 4 (its requirements pin 4.35.0; until 4.44 the ViT
places its positions alike), einops, omegaconf, huggingface_hub, trimesh. Nothing is downloaded.
"""

import json
import pathlib
import sys
import tempfile
import warnings

import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import network  # noqa: E402
from export_tools import comparing, weights  # noqa: E402


def reference_of(clone, config, state):
    """The published model, built by the published code with the published configuration's values."""
    sys.path.insert(0, str(clone))
    comparing.stand_in_for("rembg", "torchmcubes", "imageio")
    from tsr.models.tokenizers import image
    from tsr.system import TSR

    modules = "tsr.models."
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "config.json"
        path.write_text(json.dumps(comparing.vision_configuration(config).to_dict()))
        image.hf_hub_download = lambda **_: str(path)
        model = TSR({
            "cond_image_size": config.side,
            "image_tokenizer_cls": modules + "tokenizers.image.DINOSingleImageTokenizer", "image_tokenizer": {},
            "tokenizer_cls": modules + "tokenizers.triplane.Triplane1DTokenizer",
            "tokenizer": {"plane_size": config.plane_side, "num_channels": config.dim},
            "backbone_cls": modules + "transformer.transformer_1d.Transformer1D",
            "backbone": {"in_channels": config.dim, "num_attention_heads": config.heads, "attention_head_dim": config.dim // config.heads,
                         "num_layers": config.layers, "cross_attention_dim": config.vision_dim, "norm_num_groups": config.groups},
            "post_processor_cls": modules + "network_utils.TriplaneUpsampleNetwork",
            "post_processor": {"in_channels": config.dim, "out_channels": config.channels},
            "decoder_cls": modules + "network_utils.NeRFMLP",
            "decoder": {"in_channels": 3 * config.channels, "n_neurons": config.hidden, "n_hidden_layers": config.hidden_layers,
                        "activation": "silu"},
            "renderer_cls": modules + "nerf_renderer.TriplaneNeRFRenderer",
            "renderer": {"radius": 0.87, "feature_reduction": "concat", "density_activation": "exp", "density_bias": network.DENSITY_BIAS,
                         "num_samples_per_ray": 128},
        })
    missing, unknown = model.load_state_dict(state, strict=False)
    # The random weights have no pooler, whose result the model drops.
    if unknown or any(".pooler." not in key for key in missing):
        raise ValueError(f"the reference and these weights differ: missing {missing[:5]}, unknown {unknown[:5]}")
    return model.eval()


def front_camera():
    """Where the published cameras' first view is, and its middle ray, in TripoSR's frame."""
    from tsr.utils import get_spherical_cameras

    origins, directions = get_spherical_cameras(1, 0.0, 1.9, 40.0, 3, 3)
    return origins[0, 1, 1], directions[0, 1, 1], directions[0, 1, 2] - directions[0, 1, 0], directions[0, 0, 1] - directions[0, 2, 1]


def check_frame():
    """The contract's axes, carried into TripoSR's frame, against the published cameras: true if all four agree."""
    from export_tools.planes import to_model_frame

    origin, forward, right, up = front_camera()
    carried = to_model_frame(torch.eye(3))
    expected = [("camera on +Z", origin / origin.norm(), carried[2]), ("looks to -Z", forward, -carried[2]),
                ("+X is right", right / right.norm(), carried[0]), ("+Y is up", up / up.norm(), carried[1])]
    return comparing.frames_agree(expected)


@torch.no_grad()
def main():
    warnings.filterwarnings("ignore")
    args = comparing.arguments(__doc__)
    config = network.SMALL if args.small else network.FULL
    if args.checkpoint:
        state = weights.read_checkpoint(args.checkpoint)
        ours = weights.build(network.TripoSR, config, network.names_of(config), state)
    else:
        ours, state = weights.random_pair(network.TripoSR, config, network.names_of(config), args.seed)
    image, points = comparing.picture(args, config.side), comparing.box_points(args)

    print("times")
    reference = reference_of(args.reference, config, state)
    codes = comparing.timed("reference encode", lambda: reference(image.permute(0, 2, 3, 1), "cpu"))
    # The contract's axes by the published cameras' description: x back, y right, z up.
    theirs_at = torch.stack([points[0, :, 2], points[0, :, 0], points[0, :, 1]], -1) * reference.renderer.cfg.radius
    # There and back, the box's size costs a last digit: ours get the points that the reference ends up with.
    from tsr.utils import scale_tensor

    points = scale_tensor(theirs_at, (-reference.renderer.cfg.radius, reference.renderer.cfg.radius), (-1, 1))[None][:, :, [1, 2, 0]]
    field = comparing.timed("reference query", lambda: reference.renderer.query_triplane(reference.decoder, theirs_at, codes[0]))
    del reference, state

    threshold = network.DENSITY_THRESHOLD
    density = field["density_act"][:, 0].double()
    # Density is an exponential, whose last digit in float32 passes the limit from 1,000 on: measured by the threshold, and
    # above it by itself.
    measure = density.clamp(min=threshold)

    def run(module):
        ours_codes = comparing.timed("export encode", lambda: module.encode(image))
        logits, colours = comparing.timed("export query", lambda: module.query(ours_codes, points))
        return [("codes", ours_codes, codes), ("logit", logits[0], torch.log(density / threshold)),
                ("relative density", logits[0].double().exp() * threshold / measure, density / measure), ("colour", colours[0], field["color"])]

    exact = comparing.Archive(ours, torch.float32)
    results = run(exact.module)
    del exact
    half = comparing.Archive(ours, torch.float16)
    rounded = run(half.module)

    print("spread of the reference's values")
    comparing.spread("codes", codes)
    comparing.spread("density", density)
    comparing.spread("colour", field["color"])
    print(f"  inside: {(density > threshold).double().mean():.1%} of the box")
    print("frame")
    framed = check_frame()
    worst = comparing.differences("differences, weights in float32", results)
    comparing.differences(f"differences, weights stored in half precision ({half.bytes:,} bytes), computed in float32", rounded)
    flipped = ((rounded[1][1] > 0) != (rounded[1][2] > 0)).double().mean()
    print(f"  inside and outside exchanged at {flipped:.3%} of the points")
    return comparing.verdict(worst) if framed else 1


if __name__ == "__main__":
    sys.exit(main())
