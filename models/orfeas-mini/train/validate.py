"""How well the network does on models it isn't trained on, cheaply and during training: volumetric IoU of its field.

Not the published figures, which compare meshes (`measure.py`): seeded clean views of each model, points spread through the
object's box, the field's sign against the label's.
"""

import numpy as np
import torch

import data
import render

VIEWS, SEED, POINTS, AT_ONCE = 2, 5, 32_768, 32


class Validation:
    """The views of one split, made once."""

    def __init__(self, packs, split, device):
        meshes = data.read_packs(packs)
        bank = data.Bank(meshes.pick(data.splits(meshes)[split]), device, samples=64)
        g = torch.Generator(device).manual_seed(SEED)
        self.parts = []
        for part, _, scenes in render.clean_views(bank, VIEWS, SEED, AT_ONCE):
            low, high = scenes.low[:, None] - 0.02, scenes.high[:, None] + 0.02
            points = low + (high - low) * torch.rand(len(part), POINTS, 3, device=device, generator=g)
            box = torch.tensor([1.0, 1.0, render.DEPTH_HALF], device=device)
            self.parts.append((render.on_grey(scenes.picture()[0]), points / box, scenes.distance(points) < 0,
                               torch.stack([scenes.elevation, scenes.s], 1)))

    @torch.no_grad()
    def measure(self, learner):
        """Mean IoU over the views, and the mean error of the predicted elevation in degrees."""
        ious, errors = [], []
        for images, points, inside, camera in self.parts:
            with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
                logits, _, predicted = learner(images, points, camera)[:3]
            said = logits > 0
            ious.append((said & inside).sum(1) / (said | inside).sum(1).clamp(min=1))
            errors.append((predicted[:, 0] - camera[:, 0]).abs())
        return {"iou": torch.cat(ious).mean().item(), "elevation": float(np.degrees(torch.cat(errors).mean().item()))}
