"""Compares the exported InstantMesh with the published implementation, on the same weights and the same pictures.

    python compare.py --reference CLONE_OF_INSTANTMESH [--variant base]

Both as the contract has it, one picture from the level camera, and as the released pipeline has it, six pictures with
cameras of their own. Needs what the published code imports to run its network: transformers 4 (its requirements pin
4.34.1), einops, trimesh. Nothing is downloaded.
"""

import pathlib
import sys
import warnings

import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import export  # noqa: E402
import network  # noqa: E402
from export_tools import comparing, weights  # noqa: E402
from export_tools.layers import IMAGE_DEVIATION, IMAGE_MEAN  # noqa: E402


def reference_of(clone, config, state):
    """The published model, built by the published code."""
    sys.path.insert(0, str(clone))
    comparing.stand_in_for("mcubes", "xatlas", "cv2", "nvdiffrast", "nvdiffrast.torch")
    from src.models.encoder import dino_wrapper
    from src.models.lrm import InstantNeRF

    published_vit, published_processor = dino_wrapper.ViTModel, dino_wrapper.ViTImageProcessor
    sizes = comparing.vision_configuration(config)
    dino_wrapper.DinoWrapper._build_dino = staticmethod(lambda _: (
        published_vit(sizes, add_pooling_layer=False), published_processor(image_mean=IMAGE_MEAN, image_std=IMAGE_DEVIATION)))
    model = InstantNeRF(encoder_feat_dim=config.vision_dim, transformer_dim=config.dim, transformer_layers=config.layers,
                        transformer_heads=config.heads, triplane_low_res=config.plane_side, triplane_high_res=2 * config.plane_side,
                        triplane_dim=config.channels)
    model.load_state_dict(state, strict=True)
    return model.eval()


def check_frame():
    """Our camera against the published ones, and the contract's axes against it: true if all agree."""
    from export_tools.planes import to_model_frame
    from src.utils.camera_util import FOV_to_intrinsics, get_zero123plus_input_cameras, spherical_camera_pose

    pose = spherical_camera_pose([0.0], [0.0], network.CAMERA_DISTANCE)[0].float()
    lens = FOV_to_intrinsics(network.FIELD_OF_VIEW_DEGREES).float()
    theirs = torch.cat([pose[:3].flatten(), torch.stack([lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]])])
    released = get_zero123plus_input_cameras(1, network.CAMERA_DISTANCE, network.FIELD_OF_VIEW_DEGREES)[0]
    carried = to_model_frame(torch.eye(3))
    checks = [("level camera", theirs, torch.tensor(network.level_camera())), ("lens of the released pipeline", released[0, 12:], theirs[12:]),
              ("+X is right", pose[:3, 0], carried[0]), ("+Y is up", pose[:3, 1], carried[1]), ("camera on +Z", pose[:3, 2], carried[2])]
    return comparing.frames_agree(checks)


@torch.no_grad()
def main():
    warnings.filterwarnings("ignore")
    args = comparing.arguments(__doc__, tuple(export.VARIANTS))
    config = network.SMALL if args.small else export.VARIANTS[args.variant]
    if args.checkpoint:
        state = weights.read_checkpoint(args.checkpoint, export.PREFIX)
        ours = weights.build(network.InstantMesh, config, network.names_of(config), state)
    else:
        ours, state = weights.random_pair(network.InstantMesh, config, network.names_of(config), args.seed)
    image, points = comparing.picture(args, config.side), comparing.box_points(args)
    # Six pictures that differ; which is of no matter to the comparison.
    views = torch.stack([image.roll(shift * config.side // 6, 3) for shift in range(6)], 1)

    print("times")
    reference = reference_of(args.reference, config, state)
    from src.utils.camera_util import get_zero123plus_input_cameras

    level, released = torch.tensor(network.level_camera())[None, None], get_zero123plus_input_cameras(1)
    # The contract's axes by the published cameras' poses: x towards the camera, y right, z up.
    theirs_at = torch.stack([points[:, :, 2], points[:, :, 0], points[:, :, 1]], -1)
    codes = comparing.timed("reference encode, 1 view", lambda: reference.forward_planes(image[:, None], level))
    codes_of_six = comparing.timed("reference encode, 6 views", lambda: reference.forward_planes(views, released))
    field = comparing.timed("reference query", lambda: reference.synthesizer.forward_points(codes, theirs_at))
    density, colour = field["sigma"][0, :, 0].double(), field["rgb"][0].clamp(0.0, 1.0)
    del reference, state

    def run(module):
        ours_codes = comparing.timed("export encode, 1 view", lambda: module.encode(image))
        ours_of_six = comparing.timed("export encode, 6 views", lambda: module.encode_views(views, released))
        logits, colours = comparing.timed("export query", lambda: module.query(ours_codes, points))
        # The logit is the MLP's output less its value at the threshold; the published density is softplus of output - 1.
        ours_density = F.softplus(logits[0].double() + ours.threshold - 1.0)
        return [("codes, 1 view", ours_codes, codes), ("codes, 6 views", ours_of_six, codes_of_six), ("density", ours_density, density),
                ("colour", colours[0], colour)]

    exact = comparing.Archive(ours, torch.float32)
    results = run(exact.module)
    del exact
    half = comparing.Archive(ours, torch.float16)
    rounded = run(half.module)

    print("spread of the reference's values")
    comparing.spread("codes, 1 view", codes)
    comparing.spread("codes, 6 views", codes_of_six)
    comparing.spread("density", density)
    comparing.spread("colour", colour)
    print(f"  inside: {(density > network.DENSITY_THRESHOLD).double().mean():.1%} of the box")
    print("frame")
    framed = check_frame()
    worst = comparing.differences("differences, weights in float32", results)
    comparing.differences(f"differences, weights stored in half precision ({half.bytes:,} bytes), computed in float32", rounded)
    flipped = ((rounded[2][1] > network.DENSITY_THRESHOLD) != (density > network.DENSITY_THRESHOLD)).double().mean()
    print(f"  inside and outside exchanged at {flipped:.3%} of the points")
    return comparing.verdict(worst) if framed else 1


if __name__ == "__main__":
    sys.exit(main())
