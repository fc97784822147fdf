"""Optimisers: orthogonalised momentum for the transformer blocks' matrices, AdamW for everything else.

Both read their learning rates from tensors on the device and never wait for the host, so that a step can be captured in
one CUDA graph; that, and one product for all matrices of a shape, is why `torch.optim.Muon` isn't used.
"""

import torch
from torch import nn

# The odd polynomial of Jordan et al. (Muon, 2024): five rounds bring all singular values near one.
COEFFICIENTS, ROUNDS = (3.4445, -4.7750, 2.0315), 5
# Updates get the size that AdamW's usually have (Liu et al., "Muon is scalable", 2025).
MATCHED_SIZE = 0.2
MOMENTUM = 0.95


def matrices_of(core):
    """The blocks' weight matrices: (parameter, how many independent matrices lie in it along its rows)."""
    found = []
    for name, module in core.named_modules():
        if isinstance(module, nn.Linear) and name.startswith(("encoder.", "decoder.")):
            found.append((module.weight, 2 if name.endswith("keys_values") else 1))
    return found


def orthogonalised(x):
    """The nearest (semi-)orthogonal matrices, roughly: [K, m, n] with m <= n, on a GPU in bfloat16."""
    x = x.bfloat16() if x.is_cuda else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


class Muon:
    """Momentum, orthogonalised; matrices of one shape share their products."""

    def __init__(self, matrices, rate, decay):
        self.rate, self.decay = rate, decay
        self.groups = {}
        for parameter, count in matrices:
            rows = parameter.shape[0] // count
            short, long = sorted((rows, parameter.shape[1]))
            self.groups.setdefault((short, long), []).extend((parameter, i * rows, rows) for i in range(count))
        self.momenta = {shape: torch.zeros(len(parts), *shape, device=parts[0][0].device) for shape, parts in self.groups.items()}

    @torch.no_grad()
    def step(self):
        shrink = 1 - self.rate * self.decay
        for shape, parts in self.groups.items():
            wide = [rows <= p.shape[1] for p, _, rows in parts]
            cut = lambda whole, part, is_wide: whole[part[1]:part[1] + part[2]] if is_wide else whole[part[1]:part[1] + part[2]].mT
            gradient = torch.stack([cut(part[0].grad, part, w) for part, w in zip(parts, wide)])
            momentum = self.momenta[shape]
            momentum.lerp_(gradient, 1 - MOMENTUM)
            update = orthogonalised(gradient.lerp(momentum, MOMENTUM)) * (self.rate * MATCHED_SIZE * shape[1] ** 0.5)
            weights = [cut(part[0], part, w) for part, w in zip(parts, wide)]
            torch._foreach_mul_(weights, shrink)
            torch._foreach_sub_(weights, list(update.float().unbind()))

    def state_dict(self):
        return {f"{m}x{n}": momentum for (m, n), momentum in self.momenta.items()}

    def load_state_dict(self, state):
        for (m, n), momentum in self.momenta.items():
            momentum.copy_(state[f"{m}x{n}"])


class Optimisers:
    """The two together, or AdamW alone. `rates` is a tensor of two: AdamW's and the matrices'."""

    def __init__(self, core, rates, orthogonal=True, decay=0.03):
        matrices = matrices_of(core) if orthogonal else []
        taken = {id(p) for p, _ in matrices}
        others = [p for p in core.parameters() if id(p) not in taken]
        self.rates = rates
        self.muon = Muon(matrices, rates[1], decay)
        self.adam = torch.optim.AdamW(others, lr=rates[0], betas=(0.9, 0.98), weight_decay=decay, fused=True, capturable=rates.is_cuda)

    def step(self):
        self.muon.step()
        self.adam.step()

    def state_dict(self):
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state):
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        for group in self.adam.param_groups:
            group["lr"] = self.rates[0]
