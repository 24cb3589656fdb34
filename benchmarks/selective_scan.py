"""The selective scan against a plain PyTorch loop, forward and backward.

    python benchmarks/selective_scan.py

The loop does what the reference of state-spaces/mamba does (``selective_scan_ref``): it makes the
decays and inputs of all steps at once, (B, D, L, N) each, and takes a slice of both in every step,
whose gradients are as large as the whole. Both run in a process of their own with one thread, on
the same numbers; seconds are those of the processor, so that other programs do not count. Memory
is the growth of the process's peak over what it held before.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from common import RESULTS, save
from medseg.nn.selective_scan import selective_scan

BATCH, CHANNELS, STATES, LENGTH = 1, 16, 16, 3136
REPEATS = {"loop": 1, "chunked": 5}


def loop(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """``u`` and ``delta`` (B, D, L), ``a`` (D, N), ``b`` and ``c`` (B, N, L), ``d`` (D,)."""
    delta = F.softplus(delta)
    decays = torch.exp(torch.einsum("bdl,dn->bdln", delta, a))
    inputs = torch.einsum("bdl,bnl,bdl->bdln", delta, b, u)
    h = torch.zeros(u.shape[0], *a.shape)
    outputs = []
    for t in range(u.shape[-1]):
        h = decays[:, :, t] * h + inputs[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", h, c[:, :, t]))
    return torch.stack(outputs, dim=2) + u * d[:, None]


def chunked(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The same by medseg."""
    return selective_scan(u, delta, a, b[:, None], c[:, None], d, delta_softplus=True)[0]


SCANS: dict[str, Callable[..., Tensor]] = {"loop": loop, "chunked": chunked}


def measure(name: str) -> dict[str, object]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sequence, states = (BATCH, CHANNELS, LENGTH), (BATCH, STATES, LENGTH)
    values = [torch.randn(size) for size in (sequence, sequence, states, states, (CHANNELS,))]
    values.insert(2, -torch.rand(CHANNELS, STATES) - 0.1)
    parts = [each.requires_grad_() for each in values]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    forward, backward = [], []
    for _ in range(REPEATS[name]):
        begun = time.process_time()
        y = SCANS[name](*parts)
        middle = time.process_time()
        gradients = torch.autograd.grad(y.square().sum(), parts)
        forward.append(middle - begun)
        backward.append(time.process_time() - middle)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "forward_s": round(min(forward), 4),
        "backward_s": round(min(backward), 4),
        "peak_mb": round((peak - before) * 1024 / 1e6, 1),
        "checks": [float(each.double().norm()) for each in (y, *gradients)],
    }


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    found = {}
    for name in SCANS:
        done = subprocess.run(
            [sys.executable, __file__, "--measure", name], check=True, capture_output=True
        )
        found[name] = json.loads(done.stdout)
    pairs = zip(found["loop"].pop("checks"), found["chunked"].pop("checks"), strict=True)
    total = {name: each["forward_s"] + each["backward_s"] for name, each in found.items()}
    save(
        RESULTS / "selective_scan.json",
        {
            "sizes": {
                "batch": BATCH, "channels": CHANNELS, "states": STATES, "length": LENGTH,
                "threads": 1,
            },
            **found,
            "times_faster": round(total["loop"] / total["chunked"], 1),
            "norms_differ_by": max(abs(one / other - 1) for one, other in pairs),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
