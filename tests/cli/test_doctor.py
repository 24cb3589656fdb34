from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform

import pytest

from commands import medseg
from medseg.cli import doctor


@pytest.fixture
def torch_found(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What looking at PyTorch gives; a real look takes seconds and is taken in one test."""
    found: dict[str, object] = {"threads": 2, "cuda": [], "mps": False, "works": True}
    monkeypatch.setattr(
        doctor, "_probe", lambda script: found if script == doctor.PROBE_TORCH else {"works": True}
    )
    return found


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """As if ``missing`` were not installed, and everything else were."""
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in missing else "1")


def test_a_working_installation_has_no_problems() -> None:
    shown = medseg("doctor", "--json")
    facts = json.loads(shown.out)
    assert facts["torch"]["works"] is True
    assert facts["onnxruntime"]["works"] is True
    assert facts["problems"] == []
    assert (shown.code, shown.err) == (0, "")


def test_versions_devices_and_space_are_shown(torch_found: dict[str, object]) -> None:
    torch_found["cuda"] = ["NVIDIA A100"]
    shown = medseg("doctor")
    assert (shown.code, shown.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert lines["python"] == platform.python_version()
    assert lines["devices"] == "cpu, NVIDIA A100"
    assert float(lines["free_disk_gb"]) > 0
    for name in ("torch", "numpy", "pillow", "typer"):
        assert f"{name} {importlib.metadata.version(name)}" in lines["versions"]
    assert shown.out.endswith("no problems found\n")


def test_a_broken_torch_is_a_finding_and_not_a_crash(torch_found: dict[str, object]) -> None:
    del torch_found["works"]
    torch_found["error"] = "ImportError: libc10.so: cannot open shared object file"
    shown = medseg("doctor")
    assert shown.code == 1
    assert "problem: PyTorch does not work: ImportError: libc10.so" in shown.out
    assert "no problems found" not in shown.out


@pytest.mark.parametrize("name", ["numpy", "scipy"])
def test_a_missing_dependency_is_named(
    torch_found: dict[str, object], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    without(monkeypatch, name)
    shown = medseg("doctor", "--json")
    assert shown.code == 1
    assert json.loads(shown.out)["problems"] == [f"{name} is not installed"]


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_one_engine_is_enough(
    torch_found: dict[str, object], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    without(monkeypatch, engine)
    shown = medseg("doctor")
    assert shown.code == 0
    assert f"{engine} not installed" in shown.out


def test_no_engine_at_all_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch", "onnxruntime")
    shown = medseg("doctor")
    assert shown.code == 1
    assert "pip install 'medseg[train]'" in shown.out


def test_a_version_known_to_be_bad_is_named(
    torch_found: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "2.9.1" if name == "torch" else "1")
    shown = medseg("doctor", "--json")
    assert shown.code == 1
    assert "166122" in json.loads(shown.out)["problems"][0]


def test_a_probe_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_TORCH", "import sys; sys.exit('Illegal instruction')")
    facts = json.loads(medseg("doctor", "--json").out)
    assert facts["torch"] == {"works": False, "error": "Illegal instruction"}
