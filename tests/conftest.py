"""One thread for PyTorch, also in subprocesses: for arrays as small as those of the tests, several
threads are slower, and very much so on a busy machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from data.builders import squares

os.environ.setdefault("OMP_NUM_THREADS", "1")

# In CI the same examples each time and no deadline, so that a red run means a change in the code;
# elsewhere hypothesis goes on searching.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 20 colour images with binary masks; tests that change it copy it first."""
    return squares(tmp_path_factory.mktemp("data") / "photos", 20)


@pytest.fixture(scope="session")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `medseg train` on ``photos``; tests that change it copy it first."""
    from commands import TINY, medseg

    folder = tmp_path_factory.mktemp("runs") / "trained"
    assert medseg("train", photos, "-o", folder, *TINY, "--epochs", 8).code == 0
    return folder
