"""`medseg doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from medseg import __version__
from medseg.cli.options import AsJson

# In a process of its own, so that a broken PyTorch is a finding and not a crash.
PROBE = """
import json, torch
cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
x = torch.ones(8, 8)
print(json.dumps({"threads": torch.get_num_threads(), "cuda": cuda,
                  "mps": torch.backends.mps.is_available(), "works": float((x @ x).sum()) == 512}))
"""

# Distribution, version prefix, and what is known to be wrong with it.
KNOWN_BAD = (
    ("torch", "2.9.", "mixed-precision 3D convolutions are 4 times slower (pytorch #166122)"),
)


def doctor(as_json: AsJson = False) -> None:
    """Check the installation: versions, devices, memory, disk. Exit code 1 when it is broken.

    **Example**

        medseg doctor
    """
    versions = {name: _version(name) for name in _core_dependencies()}
    problems = [f"{name} is not installed" for name, found in versions.items() if found is None]
    for name, prefix, problem in KNOWN_BAD:
        if (versions.get(name) or "").startswith(prefix):
            problems.append(f"{name} {versions[name]}: {problem}")
    torch = _probe_torch()
    if not torch.get("works"):
        problems.append(f"PyTorch does not work: {torch.get('error', 'wrong result')}")
    facts = {
        "medseg": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "free_disk_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "torch": torch,
        "versions": versions,
        "problems": problems,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    else:
        for key in ("medseg", "python", "platform", "cores", "memory_gb", "free_disk_gb"):
            typer.echo(f"{key:14}{facts[key]}")
        devices = ["cpu", *torch.get("cuda", []), *(["mps"] if torch.get("mps") else [])]
        typer.echo(f"{'devices':14}{', '.join(devices)}")
        typer.echo(f"{'versions':14}{', '.join(f'{k} {v}' for k, v in versions.items())}")
        for problem in problems:
            typer.secho(f"problem: {problem}", fg=typer.colors.RED)
        if not problems:
            typer.echo("no problems found")
    if problems:
        raise typer.Exit(1)


def _core_dependencies() -> list[str]:
    requirements = importlib.metadata.requires("medseg") or []
    return sorted(r.split(">")[0].strip() for r in requirements if "extra ==" not in r)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _probe_torch() -> dict[str, Any]:
    found = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    if found.returncode != 0:
        lines = found.stderr.strip().splitlines()
        return {"works": False, "error": lines[-1] if lines else f"exit {found.returncode}"}
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError):
        return None
