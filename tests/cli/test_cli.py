"""What all verbs have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import medseg
from commands import medseg as run
from data.builders import dataset

VERBS = [
    ("train",),
    ("predict",),
    ("evaluate",),
    ("data", "check"),
    ("data", "split"),
    ("info",),
    ("systems", "list"),
    ("systems", "show"),
    ("demo",),
    ("doctor",),
]


def test_the_version_is_the_packages() -> None:
    assert run("--version") == (0, f"medseg {medseg.__version__}\n", "")


def test_without_a_verb_the_help_is_shown() -> None:
    shown = run()
    assert shown.code == 2
    assert all(verb in shown.out for verb in ("train", "predict", "evaluate", "demo"))


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_help_of_every_verb_shows_how_to_call_it(verb: tuple[str, ...]) -> None:
    shown = run(*verb, "--help")
    assert shown.code == 0
    usage, _, example = shown.out.partition("Example")
    assert f"medseg {' '.join(verb)}" in usage
    assert f"medseg {' '.join(verb)}" in example


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_an_unknown_option_is_refused_by_name(verb: tuple[str, ...]) -> None:
    refused = run(*verb, "--colour")
    assert refused.code == 2
    assert "No such option: --colour" in refused.err


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if verb[-1] not in ("list", "demo", "doctor")], ids=" ".join
)
def test_a_missing_argument_is_named(verb: tuple[str, ...]) -> None:
    refused = run(*verb)
    assert refused.code == 2
    assert "Missing argument" in refused.err


def test_an_unknown_verb_is_refused() -> None:
    assert "No such command 'trian'" in run("trian").err


def test_a_mistake_costs_one_line_and_no_traceback_as_a_process(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "medseg", "info", "nothing"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: nothing: does not exist, and no dataset")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["train", "info", "predict", "evaluate", "data check"])
def test_a_path_longer_than_the_system_allows_is_an_error_like_any_other(
    verb: str, trained: Path, tmp_path: Path
) -> None:
    name = "x" * 300
    arguments = {"predict": [trained, name, "-o", tmp_path / "out"], "evaluate": [name, trained]}
    refused = run(*verb.split(), *arguments.get(verb, [name]))
    assert refused.code == 2
    assert refused.err.startswith("error: ")
    assert name in refused.err
    assert "File name too long" in refused.err


def test_names_are_printed_on_a_terminal_that_cannot_say_them(
    tmp_path: Path,
) -> None:
    data = dataset(tmp_path / "größe")
    (data / "masks" / "患者.png").write_bytes((data / "masks" / "000.png").read_bytes())
    ran = subprocess.run(
        [sys.executable, "-m", "medseg", "data", "check", str(data)], capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "300"},
    )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr == b""
    assert rb"gr\xf6\xdfe/masks/\u60a3\u8005.png" in ran.stdout
