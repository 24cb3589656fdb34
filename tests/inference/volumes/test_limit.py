"""The limit of ``--max-ram`` is that of a process, so a process of its own is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_PREDICTS_TWICE = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from inference.volumes.builders import model
from medseg.inference.volumes.memory import resident

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

torch.set_num_threads(1)
organs = {str(value): value for value in range(30)}
organs["background"] = organs.pop("0")
found = model(organs, spacing_mm=None, patch=(8, 64, 64), overlap=0)
image = np.random.default_rng(0).normal(size=(24, 448, 384)).astype(np.float32)
limit = resident() + 200_000_000
kept = found.predict(image, max_ram=limit)
within = most()
free = found.predict(image)
print(json.dumps([limit, within, most(), bool(np.array_equal(kept, free))]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_limit_is_kept_where_without_it_more_is_taken() -> None:
    limit, within, without, same = _measured()
    assert within <= limit < without
    assert same


def _measured() -> tuple[int, int, int, bool]:
    done = subprocess.run(
        [sys.executable, "-c", _PREDICTS_TWICE],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    limit, within, without, same = json.loads(done.stdout)
    return limit, within, without, same
