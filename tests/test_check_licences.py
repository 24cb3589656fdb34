"""The licence check lets permissive packages through and nothing else."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "check_licences.py"
spec = importlib.util.spec_from_file_location("check_licences", TOOL)
assert spec is not None
assert spec.loader is not None
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def distribution(folder: Path, name: str, *lines: str) -> metadata.Distribution:
    """An installed package ``name`` 1.0 with further ``lines`` of metadata."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines])
    (info / "METADATA").write_text(text + "\n", encoding="utf-8")
    return metadata.Distribution.at(info)


@pytest.mark.parametrize(
    "line",
    [
        "License-Expression: GPL-3.0-or-later",
        "License-Expression: MIT AND LGPL-2.1-only",
        "License: AGPL-3.0",
        "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
        "Classifier: License :: Other/Proprietary License",
        "License: something of our own",
        "Summary: no licence named",
    ],
)
def test_a_package_that_is_not_known_to_be_permissive_fails(tmp_path: Path, line: str) -> None:
    [problem] = tool.problems({"fake": distribution(tmp_path, "fake", line)})
    assert problem.startswith("fake 1.0: ")


@pytest.mark.parametrize(
    "line",
    [
        "License-Expression: BSD-3-Clause",
        "License-Expression: Apache-2.0 AND (GPL-2.0-only OR MIT)",
        "License-Expression: Apache-2.0 OR BSD-2-Clause",
        "License: MIT",
        "Classifier: License :: OSI Approved :: Apache Software License",
    ],
)
def test_a_permissive_package_passes(tmp_path: Path, line: str) -> None:
    assert tool.problems({"fake": distribution(tmp_path, "fake", line)}) == []


def test_an_accepted_package_is_looked_at_again_when_its_licence_changes(tmp_path: Path) -> None:
    changed = distribution(tmp_path, "tqdm", "License-Expression: GPL-3.0-only")
    assert tool.problems({"tqdm": changed})


def test_requirements_are_followed_with_their_extras_and_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "top-fake", "Requires-Dist: middle-fake[more]")
    distribution(
        tmp_path,
        "middle-fake",
        "Requires-Dist: deep-fake; extra == 'more'",
        "Requires-Dist: unused-fake; extra == 'other'",
        "Requires-Dist: absent-fake; python_version < '3'",
        "Requires-Dist: top-fake",
    )
    distribution(tmp_path, "deep-fake")
    monkeypatch.syspath_prepend(tmp_path)
    assert sorted(tool.installed(["top-fake"])) == ["deep-fake", "middle-fake", "top-fake"]
