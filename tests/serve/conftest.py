from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.servers import Server, models, serving


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models by name."""
    return models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(served: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All models with the limits that are the default."""
    with serving(tmp_path_factory.mktemp("server"), *served.values()) as running:
        yield running


@pytest.fixture(scope="session")
def strict(served: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Limits that are met soon: one worker, one request that waits, four seconds, 0.1 MB, and
    0.03 megapixels."""
    with serving(
        tmp_path_factory.mktemp("strict"), served["slow"], "--workers", 1, "--queue", 1,
        "--timeout", 4, "--max-upload", 0.1, "--max-megapixels", 0.03,
    ) as running:  # fmt: skip
        yield running
