from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "vendor_web.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vendor_web", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_another_archive_than_the_pinned_one_is_refused(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match="has the sha512"):
        tool.extract(b"another archive")


def test_a_failed_download_leaves_nothing_and_says_what_to_do(
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tool, "FOLDER", tmp_path / "vendor")
    monkeypatch.setattr(tool, "download", lambda: b"a page that says: forbidden")
    assert tool.main() == 1
    assert "repeat with a connection" in capsys.readouterr().err
    assert not (tmp_path / "vendor").exists()


def test_what_is_there_is_not_fetched_again(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / tool.STAMP).write_text(tool.VERSION, encoding="utf-8")
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    monkeypatch.setattr(tool, "download", lambda: pytest.fail("fetched again"))
    assert tool.main() == 0
