from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.grids import before_forward, tiny
from commands import medseg
from medseg import benchmark


def test_a_killed_cell_is_a_row_too(photos: Path, tmp_path: Path) -> None:
    values = tiny(tmp_path, data=str(photos))
    (tmp_path / "good.py").write_text(before_forward("import os; os.kill(os.getpid(), 9)"))
    ran = benchmark.run(values, tmp_path / "out", device="cpu", quiet=True, report=False)
    (record,) = ran.records
    assert record["status"] == "failed"
    assert "killed by SIGKILL" in record["error"]
    assert record["error"].endswith("see cells/good/photos/seed-0/log.txt")


@pytest.fixture
def slow_grid(photos: Path, tmp_path: Path) -> list[str]:
    """The command line of two cells of a few seconds each."""
    tiny(tmp_path)
    (tmp_path / "good.py").write_text(before_forward("import time; time.sleep(0.03)"))
    return [
        "benchmark", "--systems", str(tmp_path / "good.py"), "--data", str(photos), "--seeds", "2",
        "--epochs", "12", "--image-size", "16", "--set", "train.batch_size=4", "--device", "cpu",
        "--no-report",
    ]  # fmt: skip


def start(command: list[str], out: Path) -> subprocess.Popen[bytes]:
    """Start a benchmark, and wait until its second cell is half trained."""
    ran = subprocess.Popen(
        [sys.executable, "-m", "medseg", *command, "-o", str(out)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    curve = out / "cells/good/photos/seed-1/run/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (curve.is_file() and len(curve.read_text().splitlines()) >= 3):
        assert ran.poll() is None, ran.stderr and ran.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return ran


def alive(folder: Path) -> list[str]:
    """Processes that work in ``folder``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "medseg.benchmark.cell" in line and str(folder) in line:
            found.append(line)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_benchmark_killed_in_the_middle_goes_on_to_the_same_results(
    slow_grid: list[str], tmp_path: Path
) -> None:
    assert medseg(*slow_grid, "-o", tmp_path / "whole").code == 0
    ran = start(slow_grid, tmp_path / "killed")
    ran.kill()
    ran.communicate()
    deadline = time.monotonic() + 20
    while alive(tmp_path / "killed"):
        assert time.monotonic() < deadline, "cells outlive their benchmark"
        time.sleep(0.05)
    done = (tmp_path / "killed/cells/good/photos/seed-1/run/metrics.jsonl").read_text()
    assert 3 <= len(done.splitlines()) < 12
    first = (tmp_path / "killed/cells/good/photos/seed-0/cell.json").stat().st_mtime_ns
    assert medseg(*slow_grid, "-o", tmp_path / "killed").code == 0
    assert (tmp_path / "killed/cells/good/photos/seed-0/cell.json").stat().st_mtime_ns == first
    assert "resumed" in (tmp_path / "killed/cells/good/photos/seed-1/log.txt").read_text()
    results = [(tmp_path / name / "results.csv").read_bytes() for name in ("whole", "killed")]
    assert results[0] == results[1]


@pytest.mark.slow
def test_an_interrupted_benchmark_says_how_to_go_on(slow_grid: list[str], tmp_path: Path) -> None:
    ran = start(slow_grid, tmp_path / "out")
    os.kill(ran.pid, signal.SIGINT)
    _, err = ran.communicate(timeout=60)
    assert ran.returncode == 130
    again = f"medseg benchmark {tmp_path / 'out' / 'spec.yaml'} -o {tmp_path / 'out'}"
    assert again in err.decode()
    assert "Traceback" not in err.decode()
    assert medseg(*again.split()[1:], "--device", "cpu", "--no-report").code == 0
