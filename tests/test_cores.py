from __future__ import annotations

import os

import pytest

from medseg.cores import cores, threads, threads_asked_for


def test_the_cores_are_those_that_this_process_may_use() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", 3), ("2,1", 2), (" 4 ", 4), ("", None), ("0", None), ("-1", None), ("many", None)],
)
def test_threads_are_those_asked_for_or_all_cores(
    text: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads_asked_for() == expected
    assert threads() == (expected or cores())
