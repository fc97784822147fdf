"""Trains the network on scenes made during training, for a bounded time, resumable.

    python train.py --packs DIR --init FIRST_OR_CHECKPOINT --out DIR --minutes 9 --steps 9000
    python train.py --packs DIR --resume DIR/full.pt --out DIR --minutes 9 --steps 9000
    python train.py --out DIR --smoke
    python -m torch.distributed.run --nproc-per-node 2 train.py ...        one process a GPU; --batch is each one's

Step n's scenes depend on the seed and n alone. `full.pt` resumes with the optimiser's state; `half.pt` holds the averaged
weights in half precision and the step, and resumes with a fresh optimiser (the metrics come back, not the bits).
"""

import argparse
import json
import math
import os
import pathlib
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

import data
import model
import optimise
import render
import sampling
import shapes
import validate

WARMUP_STEPS = 100
MASK_WEIGHT, COLOUR_WEIGHT, CAMERA_WEIGHT, RAY_WEIGHT, DEPTH_WEIGHT = 0.1, 0.7, 0.3, 0.15, 0.5
PARTS = ("occupancy", "colour", "mask", "camera", "rays", "depth")
# A ray through the object must meet a logit of this much, one past it none above its negative. It keeps thin parts,
# whose depth is uncertain: occupancy alone spreads them until nothing reaches the surface's level.
RAY_MARGIN = 0.7
# Rare categories are drawn more often than their share, by this power of their size.
BALANCE = -0.3
PART_BYTES = 15 << 20
# Processes agree this often whether the time is up.
STEPS_TO_AGREE = 20


class Crew:
    """The processes that train together; alone, there is one. All hold the same weights and see other scenes."""

    def __init__(self, device):
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.number = int(os.environ.get("RANK", "0"))
        self.is_first = self.number == 0
        if self.size > 1:
            dist.init_process_group("nccl" if device == "cuda" else "gloo")

    def average(self, tensors):
        """Replaces each tensor by its mean over the processes."""
        if self.size > 1:
            flat = torch.cat([t.flatten() for t in tensors])
            dist.all_reduce(flat)
            flat /= self.size
            torch._foreach_copy_(tensors, [part.view_as(t) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors)])

    def any(self, mine, device):
        """Whether it is so for any of the processes."""
        if self.size == 1:
            return mine
        said = torch.tensor(float(mine), device=device)
        dist.all_reduce(said, op=dist.ReduceOp.MAX)
        return said.item() > 0


class Picker:
    """Draws model indices: a category-balanced share of artists' models, the rest procedural."""

    def __init__(self, records, procedural_share):
        categories = np.array([r["category"] for r in records])
        procedural = np.array([r["pack"] == "procedural" for r in records])
        names, inverse, counts = np.unique(categories, return_inverse=True, return_counts=True)
        weight = np.where(procedural, 1.0, counts[inverse].astype(float) ** BALANCE)
        if procedural.any() and not procedural.all():
            weight[procedural] *= procedural_share / weight[procedural].sum()
            weight[~procedural] *= (1 - procedural_share) / weight[~procedural].sum()
        self.cumulative = np.cumsum(weight / weight.sum())

    def __call__(self, r, n):
        return np.minimum(np.searchsorted(self.cumulative, r.random(n)), len(self.cumulative) - 1)


class Learner(torch.nn.Module):
    """The network as it is trained: the true shape is taken as the predicted camera would have it."""

    def __init__(self):
        super().__init__()
        self.core = model.Core()
        self.core.sampled = sampling.sampled

    def compile(self):
        """Compiles what repeats or has many small operations; the rest is fast as it is."""
        core = self.core
        # Compiled, its backward pass adds up by atomic operations and takes several times as long.
        model.enlarged = torch.compiler.disable(model.enlarged)
        for block in [*core.encoder, *core.decoder]:
            block.compile(dynamic=False)
        for name in ("stem", "raise_planes", "pixels", "field"):
            setattr(core, name, torch.compile(getattr(core, name), dynamic=False))

    def forward(self, images, points, true_camera):
        """Logits [B, N], colours before the sigmoid [B, N, 3], camera [B, 5], mask logits and depths [B, 1 and 2, 96, 96].

        `true_camera` [B, 2]: elevation and s. A picture doesn't tell its perspective well. Points keep their pixel and
        depth and move to where the predicted camera puts them; so the features along a pixel's ray stay those of the
        picture, and nothing is blurred.
        """
        core = self.core
        planes, pixel_map, camera, mask = core.features(images)
        used = camera[:, :2].detach()
        z = points[:, :, 2] * core.depth_half
        ratio = (1.0 - z * used[:, 1:2].clamp(0.05, 0.6)).clamp(min=0.15) / (1.0 - z * true_camera[:, 1:2]).clamp(min=0.15)
        moved = torch.cat([points[:, :, :2] * ratio[:, :, None], points[:, :, 2:]], 2)
        logits, colours = core.decode(planes, pixel_map, used, moved)
        return logits, colours, camera, mask, pixel_map[:, core.map:]


def losses(learner, batch):
    """The weighted sum and its parts."""
    logits, colours, camera, mask, depths = learner(batch["image"], batch["points"], batch["camera"])
    occupancy = F.binary_cross_entropy_with_logits(logits, batch["target"])
    some = torch.sigmoid(colours[:, :batch["colour"].shape[1]])
    weight = batch["colour_weight"][:, :, None]
    colour = ((some - batch["colour"]).abs() * weight).sum() / (3 * weight.sum() + 1)
    silhouette = F.binary_cross_entropy_with_logits(mask.float(), batch["mask"])
    pose = (camera[:, :2] - batch["camera"]).abs().mean()
    on, off = render.RAYS_ON, render.RAYS_OFF
    greatest = logits[:, -(on + off) * render.RAY_STEPS:].view(len(logits), on + off, render.RAY_STEPS).amax(2)
    rays = F.relu(RAY_MARGIN - greatest[:, :on]).mean() + F.relu(RAY_MARGIN + greatest[:, on:]).mean()
    there = batch["there"]
    depth = ((depths - batch["depths"]).abs() * there).sum() / (2 * there.sum() + 1)
    parts = torch.stack([occupancy, colour, silhouette, pose, rays, depth])
    total = occupancy + COLOUR_WEIGHT * colour + MASK_WEIGHT * silhouette + CAMERA_WEIGHT * pose + RAY_WEIGHT * rays + DEPTH_WEIGHT * depth
    return total, parts.detach()


class Trainer:
    """Weights, their running average and the optimiser; on CUDA a step is one replayed graph."""

    def __init__(self, args, device, crew):
        torch.manual_seed(args.seed)
        self.args, self.device, self.cuda, self.crew = args, device, device == "cuda", crew
        self.learner, self.step = Learner(), 0
        self.core = self.learner.core
        if args.init:
            model.load_weights(self.core, args.init)
            self.step = args.first_step
        self.learner.to(device, memory_format=torch.channels_last).train()
        if args.compile:
            self.learner.compile()
        self.parameters = list(self.core.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.rates = torch.zeros(2, device=device)
        self.optimiser = optimise.Optimisers(self.core, self.rates, args.matrix_rate > 0)
        self.began_at = self.step
        self.graph, self.batch, self.ahead = None, None, []
        self.parts = torch.zeros(len(PARTS), device=device)
        self.norm = torch.zeros((), device=device)
        if args.resume:
            self._restore(args.resume)

    def _restore(self, path):
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.core.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch._foreach_copy_(self.average, [state["average"][n] for n, _ in self.core.named_parameters()])
        self.step = state["step"]
        self.began_at = -WARMUP_STEPS  # the optimiser's moments are warm

    def progress(self):
        """What both learning rates are multiplied by at this step."""
        warm = min(1.0, (self.step - self.began_at + 1) / WARMUP_STEPS)
        done = min(1.0, self.step / self.args.steps)
        return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    def _update(self):
        torch._foreach_zero_([p.grad for p in self.parameters])
        with torch.autocast(self.device, torch.bfloat16, enabled=self.cuda, cache_enabled=False):
            total, parts = losses(self.learner, self.batch)
        total.backward()
        self.crew.average([p.grad for p in self.parameters])
        self.norm.copy_(torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True))
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1 - self.args.average)
            self.parts.lerp_(parts, 0.02)

    def train_step(self, batch):
        """One update from a batch; the batch's tensors are copied."""
        share = self.progress()
        self.rates[0].fill_(self.args.rate * share)
        self.rates[1].fill_(self.args.matrix_rate * share)
        if self.batch is None:
            self.batch = {k: v.clone() for k, v in batch.items()}
            for p in self.parameters:
                p.grad = torch.zeros_like(p)
        else:
            for k, v in batch.items():
                self.batch[k].copy_(v)
        if self.graph is not None:
            self.graph.replay()
        elif not self.cuda:
            self._update()
        else:
            self._warm_and_capture()
        self.step += 1
        if self.cuda:
            # The host may run two steps ahead, no more: queued batches hold memory.
            self.ahead.append(torch.cuda.Event())
            self.ahead[-1].record()
            if len(self.ahead) > 2:
                self.ahead.pop(0).synchronize()

    def _warm_and_capture(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._update()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        # Of this thread alone: what watches over the processes' exchange goes on asking the GPU meanwhile.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self._update()
        self.parts.zero_()

    def averaged(self):
        """The averaged weights by name, on the CPU in half precision."""
        return {n: a.half().cpu() for (n, _), a in zip(self.core.named_parameters(), self.average)}

    def save_half(self, folder):
        """Writes `half.pt.00`, `.01`, … of at most 15 MiB: join them with cat."""
        path = pathlib.Path(folder) / "half.pt"
        torch.save({"weights": self.averaged(), "step": self.step}, path)
        whole = path.read_bytes()
        path.unlink()
        for i in range(0, len(whole), PART_BYTES):
            path.with_suffix(f".pt.{i // PART_BYTES:02d}").write_bytes(whole[i:i + PART_BYTES])

    def save_full(self, path):
        names = [n for n, _ in self.core.named_parameters()]
        state = {"weights": self.core.state_dict(), "average": dict(zip(names, self.average)), "optimiser": self.optimiser.state_dict(), "step": self.step}
        partial = pathlib.Path(path).with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(path)


class Feeder:
    """Makes batches one ahead of their use, on a stream of its own."""

    def __init__(self, bank, picker, args, device, crew):
        self.bank, self.picker, self.args, self.crew = bank, picker, args, crew
        self.generator = torch.Generator(device)
        self.stream = torch.cuda.Stream() if device == "cuda" else None

    def _make(self, step):
        number = step * self.crew.size + self.crew.number
        r = np.random.default_rng([self.args.seed, number])
        self.generator.manual_seed(self.args.seed * 1_000_003 + number)
        return render.training_batch(self.bank, render.plan(r, self.picker, self.args.batch, render.SceneOptions()), self.generator)

    def make(self, step):
        if self.stream is None:
            return self._make(step), None
        with torch.cuda.stream(self.stream):
            batch = self._make(step)
            done = torch.cuda.Event()
            done.record()
        return batch, done

    @staticmethod
    def take(made):
        batch, done = made
        if done is not None:
            here = torch.cuda.current_stream()
            here.wait_event(done)
            for tensor in batch.values():
                tensor.record_stream(here)
        return batch


def make_bank(args, device):
    """The training bank: the packs' training split and procedural models."""
    sources = []
    if args.packs:
        packs = data.read_packs(args.packs)
        sources.append(packs.pick(data.splits(packs)["train"][:args.models or None]))
    if args.procedural:
        sources.append(shapes.make_meshes(args.procedural, args.seed))
    meshes = data.join([m.one(i) for m in sources for i in range(len(m.records))], [r for m in sources for r in m.records])
    sizes = {"side": 32, "views": 24, "size": 96, "samples": 256} if args.smoke else {}
    return data.Bank(meshes, device, **sizes)


class Validations:
    """The splits that a run is measured on, with a network of its own for the averaged weights."""

    def __init__(self, packs, splits, device):
        self.splits = {split: validate.Validation(packs, split, device) for split in splits}
        self.learner = Learner().to(device).eval() if splits else None

    def measure(self, trainer):
        if not self.splits:
            return {}
        torch._foreach_copy_([p.data for p in self.learner.core.parameters()], trainer.average)
        return {split: {k: round(v, 4) for k, v in each.measure(self.learner).items()} for split, each in self.splits.items()}


def run(args, device):
    started = time.time()
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    crew = Crew(device)
    bank = make_bank(args, device)
    trainer = Trainer(args, device, crew)
    feeder = Feeder(bank, Picker(bank.meshes.records, args.procedural_share), args, device, crew)
    validations = Validations(args.packs, args.validate.split(",") if args.validate and crew.is_first else [], device)
    if trainer.cuda:
        torch.cuda.synchronize()
    log = (out / "log.jsonl").open("a") if crew.is_first else None

    def tell(row):
        if log:
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(json.dumps(row), flush=True)

    def save():
        if crew.is_first:
            trainer.save_half(out)
            tell({"step": trainer.step, **validations.measure(trainer)})

    if crew.is_first:
        print(f"ready after {time.time() - started:.1f} s: {len(bank.meshes.records)} models, from step {trainer.step}", flush=True)
    tell({"step": trainer.step, **validations.measure(trainer)})
    made = feeder.make(trainer.step)
    marked, mark, saved = time.time(), trainer.step, time.time()
    while trainer.step < args.steps:
        if trainer.step % STEPS_TO_AGREE == 0 and crew.any(time.time() - started > args.minutes * 60, device):
            break
        trainer.train_step(feeder.take(made))
        made = feeder.make(trainer.step)
        if trainer.step % args.log_every == 0:
            parts = trainer.parts.tolist()
            now = time.time()
            pictures = (trainer.step - mark) * args.batch * crew.size
            tell({"step": trainer.step, "seconds": round(now - started, 1), "samples_per_second": round(pictures / (now - marked)),
                  "rate": round(trainer.progress(), 4), "norm": round(float(trainer.norm), 3), **{k: round(v, 4) for k, v in zip(PARTS, parts)}})
            marked, mark = now, trainer.step
            if not all(map(math.isfinite, parts)):
                raise RuntimeError(f"the loss is not finite at step {trainer.step}")
        if time.time() - saved > 150:
            save()
            saved = time.time()
    if trainer.cuda:
        torch.cuda.synchronize()
    save()
    if args.full and crew.is_first:
        pathlib.Path(args.full).parent.mkdir(parents=True, exist_ok=True)
        trainer.save_full(args.full)
    if crew.is_first:
        print(f"stopped at step {trainer.step} after {time.time() - started:.1f} s", flush=True)
    if crew.size > 1:
        # While a graph holds the exchange, the group waits for ever for its end.
        trainer.graph = None
        dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", help="the folder of the artists' models; without it procedural ones alone")
    parser.add_argument("--out", required=True, help="log and half-precision checkpoint")
    parser.add_argument("--init", help="an exported model or half.pt to start from")
    parser.add_argument("--first-step", type=int, default=0, help="with --init: where the schedule goes on")
    parser.add_argument("--resume", help="a full checkpoint")
    parser.add_argument("--full", help="where to leave the full checkpoint")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long, the start included")
    parser.add_argument("--steps", type=int, help="the schedule's length; default 9000, in a smoke run 2")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=4e-4, help="AdamW's")
    parser.add_argument("--matrix-rate", type=float, default=1e-3, help="of the blocks' matrices; 0: AdamW for them too")
    parser.add_argument("--average", type=float, default=0.999)
    parser.add_argument("--procedural", type=int, default=1500)
    parser.add_argument("--procedural-share", type=float, default=0.1)
    parser.add_argument("--validate", default="", help="splits to measure during training: val,unseen")
    parser.add_argument("--models", type=int, default=0, help="only the first so many of the packs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="two tiny steps, to see that everything runs")
    args = parser.parse_args()
    if args.smoke:
        args.models, args.procedural, args.batch, args.log_every = 4, 4, 2, 1
    args.steps = args.steps or (2 if args.smoke else 9000)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    run(args, "cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
