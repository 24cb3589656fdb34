"""Checkpoints without pickle: one safetensors file with JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medseg.errors import ModelError
from medseg.files import atomic_path


def save_checkpoint(
    path: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> None:
    """Write groups of named tensors and a JSON-able state, atomically.

    Raises:
        MedsegError: the file could not be written; an earlier one at ``path`` is untouched.
    """
    # Weights may be tied, and safetensors refuses tensors that share memory.
    flat = {
        f"{group}/{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for group, named in tensors.items()
        for name, tensor in named.items()
    }
    with atomic_path(path) as part:
        try:
            save_file(flat, part, metadata={"state": json.dumps(state)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote, onto the CPU.

    Raises:
        ModelError: missing, truncated, or not such a file.
    """
    tensors: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            state: dict[str, Any] = json.loads(file.metadata()["state"])
            for key in file.keys():  # noqa: SIM118 - not a mapping
                group, _, name = key.partition("/")
                tensors.setdefault(group, {})[name] = file.get_tensor(key)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            path, f"it is not a readable checkpoint ({error})", "Train again without --resume"
        ) from error
    return tensors, state


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state, e.g. ``"3.exp_avg"`` for the fourth parameter."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` gave; the hyper-parameters stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
