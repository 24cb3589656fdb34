"""What every benchmark records: where, with what, by which command."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import medseg
from medseg.inference.bundle import Manifest
from medseg.inference.network import Model
from medseg.models import create_model, network_options
from medseg.nn.blocks import count_parameters

RESULTS = Path(__file__).parent / "results"


def processor() -> str:
    """The processor's model, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str:
    """The commit that is checked out, marked when the tree differs from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return found.stdout.strip() or "unknown"


def origin() -> dict[str, Any]:
    """Command, commit, machine and versions of this measurement."""
    return {
        "command": f"python {shlex.join(sys.argv)}",
        "commit": commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {
            "medseg": medseg.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def random_model(system: str, size: int) -> Model:
    """A binary model of ``system`` for images of ``size`` pixels, with random weights."""
    torch.manual_seed(0)
    network = create_model(system)
    manifest = Manifest.model_validate(
        {
            "system": system, "network": network_options(system, {}), "num_classes": 1,
            "labels": [{"name": "background", "value": 0}, {"name": "object", "value": 255}],
            "preprocessing": {"image_size": size, "channels": 3, "mean": [0.5] * 3,
                              "std": [0.25] * 3},
            "recipe": {}, "data": {}, "scores": {}, "parameters": count_parameters(network),
            "weights_sha256": hashlib.sha256(b"").hexdigest(),
        }
    )  # fmt: skip
    return Model(manifest, network, device="cpu")


def save(path: Path, measured: dict[str, Any]) -> None:
    """Print what was measured and write it with its origin."""
    print(json.dumps(measured, indent=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**origin(), **measured}, indent=1) + "\n", encoding="utf-8")
