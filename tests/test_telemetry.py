from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from inference.graphs import save_graph

SCRIPT = """
import sys
import medseg
import numpy as np
medseg.load(sys.argv[1]).predict(np.zeros((4, 5, 3), np.uint8))
"""


def test_onnx_runtime_neither_marks_this_machine_nor_prepares_to_report(tmp_path: Path) -> None:
    graph = save_graph(tmp_path / "model.onnx")
    own = tmp_path / "own"
    own.mkdir()
    places = {name: str(own) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(graph)], env={**environment, **places}, check=True
    )
    assert list(own.rglob("*")) == []
