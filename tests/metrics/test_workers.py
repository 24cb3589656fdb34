"""Worker processes: the same results in the same order, the same errors, and a clean end."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medseg.data.io import write_mask
from medseg.errors import DataError, MedsegError
from medseg.metrics import workers as workers_module
from medseg.metrics.folders import evaluate_folders
from medseg.metrics.workers import Workers


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    with Workers(2) as workers:
        yield workers


def test_results_come_in_the_order_of_the_items(two: Workers) -> None:
    assert list(two.map(math.sqrt, range(50), 3)) == [math.sqrt(n) for n in range(50)]


def test_an_exception_is_raised_as_it_was_and_the_workers_go_on(two: Workers) -> None:
    with pytest.raises(ValueError, match="math domain error"):
        list(two.map(math.sqrt, [1, 4, -1, 9], 2))
    assert list(two.map(math.sqrt, [1, 4])) == [1, 2]


def test_a_function_that_cannot_be_sent_is_named(two: Workers) -> None:
    with pytest.raises(Exception, match="lambda"):
        list(two.map(lambda n: n, [1]))


def test_what_a_function_prints_does_not_lie_between_answers(two: Workers) -> None:
    assert list(two.map(print, ["", ""])) == [None, None]


def test_a_worker_that_dies_is_an_error_that_says_so() -> None:
    with (
        pytest.raises(MedsegError, match="--workers: a worker process ended with exit code 3"),
        Workers(1) as workers,
    ):
        list(workers.map(os._exit, [3]))


def test_too_many_workers_are_an_error_and_leave_none(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = workers_module._start

    def limited() -> subprocess.Popen[bytes]:
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(start())
        return started[0]

    monkeypatch.setattr(workers_module, "_start", limited)
    with pytest.raises(MedsegError, match="--workers 2: so many processes"), Workers(2):
        pass
    assert started[0].returncode == 0


def pairs(root: Path, count: int = 7) -> tuple[Path, Path]:
    random = np.random.default_rng(0)
    for index in range(count):
        truth = random.random((12, 12)) < 0.4
        wrong = truth ^ (random.random((12, 12)) < 0.2)
        write_mask(root / "truth" / f"{index}.png", truth.astype(np.uint8) * 255)
        write_mask(root / "out" / f"{index}.png", wrong.astype(np.uint8) * 255)
    return root / "truth", root / "out"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return pairs(tmp_path_factory.mktemp("pairs"))


def test_workers_find_the_same_scores_and_intervals_as_one_process(
    folders: tuple[Path, Path],
) -> None:
    seen: list[tuple[int, int]] = []
    alone = evaluate_folders(*folders, workers=1)
    shared = evaluate_folders(
        *folders, workers=2, progress=lambda done, total: seen.append((done, total))
    )
    assert shared == alone == evaluate_folders(*folders)
    assert seen == [(n, 7) for n in range(1, 8)]


def test_an_unreadable_truth_is_the_same_error_with_workers(tmp_path: Path) -> None:
    truth, out = pairs(tmp_path, 3)
    (truth / "labels.json").write_text('{"background": 0, "cell": 255}')
    (truth / "1.png").write_bytes(b"no picture")
    messages = []
    for workers in (1, 2):
        with pytest.raises(DataError) as caught:
            evaluate_folders(truth, out, workers=workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "1.png" in messages[0]


@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal of ctrl-C")
def test_ctrl_c_ends_at_once_and_leaves_no_worker() -> None:
    script = (
        "import signal, time\n"
        "from medseg.metrics.workers import Workers\n"
        # A shell may have started the tests with the signal ignored, as it does behind `&`.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with Workers(2) as workers:\n"
        "    print(*[child.pid for child in workers._children], flush=True)\n"
        "    list(workers.map(time.sleep, [30, 30]))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    workers = [int(pid) for pid in child.stdout.readline().split()]
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=25)
    assert said.rstrip().endswith("KeyboardInterrupt")
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
