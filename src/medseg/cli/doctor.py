"""`medseg doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from medseg import __version__
from medseg.cli.options import AsJson

# In processes of their own, so that a broken library is a finding and not a crash.
PROBE_TORCH = """
import json, torch
cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
x = torch.ones(8, 8)
print(json.dumps({"threads": torch.get_num_threads(), "cuda": cuda,
                  "mps": torch.backends.mps.is_available(), "works": float((x @ x).sum()) == 512}))
"""
PROBE_ONNXRUNTIME = """
import json, onnxruntime
print(json.dumps({"works": "CPUExecutionProvider" in onnxruntime.get_available_providers()}))
"""

# Distribution, version prefix, and what is known to be wrong with it.
KNOWN_BAD = (
    ("torch", "2.9.", "mixed-precision 3D convolutions are 4 times slower (pytorch #166122)"),
)


def doctor(as_json: AsJson = False) -> None:
    """Check the installation: versions, devices, memory, disk. Exit code 1 when it is broken.

    PyTorch is needed to train; to predict, PyTorch or ONNX Runtime.

    **Example**

        medseg doctor
    """
    torch = _probe(PROBE_TORCH) if _version("torch") else None
    onnxruntime = _probe(PROBE_ONNXRUNTIME) if _version("onnxruntime") else None
    wanted = [*_dependencies(), *(_dependencies("train") if torch else ["torch"]), "onnxruntime"]
    versions = {name: _version(name) for name in sorted({*wanted})}
    needed = {*wanted} - ({"onnxruntime"} if torch else {"onnxruntime", "torch"})
    problems = [f"{name} is not installed" for name in sorted(needed) if versions[name] is None]
    for name, prefix, problem in KNOWN_BAD:
        if (versions.get(name) or "").startswith(prefix):
            problems.append(f"{name} {versions[name]}: {problem}")
    for name, found in (("PyTorch", torch), ("ONNX Runtime", onnxruntime)):
        if found and not found.get("works"):
            problems.append(f"{name} does not work: {found.get('error', 'wrong result')}")
    if not torch and not onnxruntime:
        problems.append(
            "neither PyTorch nor ONNX Runtime is installed: pip install 'medseg[train]' to train, "
            "'medseg[runtime]' to predict with exported models"
        )
    facts = {
        "medseg": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "free_disk_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "torch": torch,
        "onnxruntime": onnxruntime,
        "versions": versions,
        "problems": problems,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    else:
        for key in ("medseg", "python", "platform", "cores", "memory_gb", "free_disk_gb"):
            typer.echo(f"{key:14}{facts[key]}")
        gpus = [*torch.get("cuda", []), *(["mps"] if torch.get("mps") else [])] if torch else []
        typer.echo(f"{'devices':14}{', '.join(['cpu', *gpus])}")
        shown = ", ".join(f"{k} {v or 'not installed'}" for k, v in versions.items())
        typer.echo(f"{'versions':14}{shown}")
        for problem in problems:
            typer.secho(f"problem: {problem}", fg=typer.colors.RED)
        if not problems:
            typer.echo("no problems found" + ("" if torch else "; training needs 'medseg[train]'"))
    if problems:
        raise typer.Exit(1)


def _dependencies(extra: str | None = None) -> list[str]:
    """Names of what medseg, or one of its extras, needs."""
    requirements = importlib.metadata.requires("medseg") or []
    split = [each.partition(";") for each in requirements]
    return sorted(
        re.split(r"[^\w.-]", needed.strip())[0]
        for needed, _, marker in split
        if (f'extra == "{extra}"' in marker.replace("'", '"') if extra else "extra" not in marker)
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _probe(script: str) -> dict[str, Any]:
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
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
