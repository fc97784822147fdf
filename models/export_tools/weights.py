"""Published weights into our modules, by name and without leftovers; or random ones in their place."""

import pathlib
import re
import zipfile

import torch


class Names:
    """Our parameters' names and the published ones: patterns with their replacements, the first that fits wins.

    A replacement may end in `@k` for the k-th of three equal parts of the published tensor's rows, as in a joint
    projection to queries, keys and values. `unused` matches published keys that have no part in the result.
    """

    def __init__(self, pairs, unused=()):
        self.pairs = [(re.compile("^" + ours), theirs) for ours, theirs in pairs]
        self.unused = [re.compile(pattern) for pattern in unused]

    def published(self, name):
        """The published key of one of our parameters, and which third of its rows (or None)."""
        for pattern, theirs in self.pairs:
            if pattern.search(name):
                key, _, third = pattern.sub(theirs, name, count=1).partition("@")
                return key, int(third) if third else None
        raise KeyError(f"no published name is known for {name}")


@torch.no_grad()
def load(module, state, names):
    """Fills every parameter of `module`. Returns the published keys that the result doesn't need.

    Raises ValueError that lists keys missing, keys nobody knows, and shapes that differ.
    """
    faults, used = [], set()
    for name, parameter in module.named_parameters():
        key, third = names.published(name)
        if key not in state:
            faults.append(f"missing: {key}")
            continue
        used.add(key)
        value = state[key] if third is None else state[key].chunk(3)[third]
        if value.shape != parameter.shape:
            faults.append(f"{key}: shape {tuple(value.shape)}, not {tuple(parameter.shape)}")
            continue
        parameter.copy_(value)
    rest = [key for key in state if key not in used]
    ignored = [key for key in rest if any(pattern.search(key) for pattern in names.unused)]
    faults += [f"unknown: {key}" for key in rest if key not in ignored]
    if faults:
        raise ValueError("these weights are of another model:\n  " + "\n  ".join(faults[:20] + (["..."] if len(faults) > 20 else [])))
    return ignored


def read_checkpoint(path, prefix=""):
    """A state dict from a PyTorch or safetensors file: tensors only, nothing in the file is executed.

    With `prefix`, only keys that begin with it, without it; a training checkpoint's `state_dict` is looked into.
    """
    path = pathlib.Path(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(str(path))
    else:
        # Mapped rather than read, where the file's format allows it: it may hold far more than the model.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        state = state.get("state_dict", state)
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


@torch.no_grad()
def random_state(module, names, seed):
    """Seeded weights for a module under the published keys, so large that every layer has a say in the result."""
    generator = torch.Generator().manual_seed(seed)

    def noise(shape, deviation):
        return torch.randn(shape, generator=generator) * deviation

    parts = {}
    for name, parameter in module.named_parameters():
        leaf, shape = name.rsplit(".", 1)[-1], parameter.shape
        if "norm" in name:
            value = noise(shape, 0.1) + (1.0 if leaf == "weight" else 0.0)
        elif leaf == "bias":
            value = noise(shape, 0.1)
        elif leaf == "weight":
            # A convolution's kernel is its stride here, so an output sees one input in transposed ones, a patch in others.
            inputs = shape[0] if name.startswith("upsample") else parameter[0].numel()
            # The sum of many blocks comes down to planes of about 1 by `leave`; the field's activations halve what they get.
            gain = 0.3 if "modulation" in name else 0.2 if name.startswith("leave") else 1.6 if name.startswith(("field", "last")) else 1.0
            value = noise(shape, gain * inputs**-0.5)
        else:
            value = noise(shape, 0.5)
        key, third = names.published(name)
        parts.setdefault(key, {})[third or 0] = value
    return {key: torch.cat([values[third] for third in sorted(values)]) for key, values in parts.items()}


@torch.no_grad()
def settle(module, names, state, images, seed):
    """Rescales the last layer, in the module and in `state`, so that a random field is worth looking at.

    Over the box, density before its activation gets the published threshold for its mean and 1 for its deviation,
    colours 0 and 1.
    """
    points = torch.rand(images.shape[0], 4096, 3, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0
    raw = module.raw(module.encode(images), points).flatten(0, 1)
    deviation, mean = torch.std_mean(raw, 0)
    last = module.last
    last.weight.copy_(last.weight / deviation[:, None])
    last.bias.copy_((last.bias - mean) / deviation)
    last.bias[0] += module.threshold
    for name, parameter in last.named_parameters(prefix="last"):
        state[names.published(name)[0]] = parameter.detach().clone()


def build(kind, config, names, state):
    """A network of a kind with a published state dict's weights, ready to run; what of the state it had no use for is printed."""
    model = kind(config)
    unused = load(model, state, names)
    if unused:
        print(f"not needed: {', '.join(unused)}")
    model.prepare()
    return model.eval()


def random_pair(kind, config, names, seed):
    """A network with seeded random weights, and the same weights as a published state dict."""
    with torch.no_grad():
        state = random_state(kind(config), names, seed)
        model = build(kind, config, names, state)
        images = torch.rand(1, 3, config.side, config.side, generator=torch.Generator().manual_seed(seed))
        settle(model, names, state, images, seed)
    return model, state
