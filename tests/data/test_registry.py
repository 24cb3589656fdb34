from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.builders import dataset
from medseg.data import registry
from medseg.data.case import Label, LabelMap
from medseg.data.layouts import is_dataset, open_dataset
from medseg.data.registry import Registration
from medseg.errors import DataError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty registry, and a working folder without datasets."""
    monkeypatch.setenv("MEDSEG_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def photos(folder: Path, **changes: Any) -> Registration:
    values: dict[str, Any] = {"name": "photos", "folder": folder, "entry": False} | changes
    return Registration(**values)


def test_a_registered_name_opens_its_folder(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    registry.register(photos(data))
    assert is_dataset(Path("photos"))
    assert open_dataset(Path("photos")).cases == open_dataset(data).cases


def test_all_that_is_registered_comes_back(tmp_path: Path) -> None:
    labels = LabelMap((Label("background", 0), Label("größe", 0xFF0000)), rgb=True)
    full = photos(
        tmp_path / "ä", layout="folders", group_pattern=r"p\d", labels=labels, objects=True,
        differences=("partial copy: 85 of 647 images",),
    )  # fmt: skip
    registry.register(full)
    registry.register(photos(tmp_path, name="other"))
    assert registry.registrations()["photos"] == full
    assert list(registry.registrations()) == ["other", "photos"]


def test_a_path_that_exists_is_no_name(tmp_path: Path) -> None:
    registry.register(photos(dataset(tmp_path / "registered", 4)))
    dataset(tmp_path / "here" / "photos", 7)
    assert len(open_dataset(Path("photos")).cases) == 7


def test_a_name_is_read_as_it_was_registered_unless_the_user_says_otherwise(
    tmp_path: Path,
) -> None:
    labels = LabelMap((Label("background", 0), Label("disk", 255)))
    registry.register(photos(dataset(tmp_path / "data"), group_pattern=r"^\d\d", labels=labels))
    opened = open_dataset(Path("photos"))
    assert {case.patient for case in opened.cases} == {"00"}
    assert opened.labels == labels
    regrouped = open_dataset(Path("photos"), group_pattern=r"\d$")
    assert {case.patient for case in regrouped.cases} == {"0", "1", "2", "3"}


def test_labels_beside_the_data_win(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    (data / "labels.json").write_text('{"background": 0, "mine": 255}')
    labels = LabelMap((Label("background", 0), Label("theirs", 255)))
    registry.register(photos(data, labels=labels))
    opened = open_dataset(Path("photos")).labels
    assert opened is not None
    assert opened.names == ("background", "mine")


def test_differences_from_the_published_set_are_said_wherever_it_is_opened(tmp_path: Path) -> None:
    differences = ("partial copy: 85 of 647 images",)
    registry.register(photos(dataset(tmp_path / "data"), differences=differences))
    opened = open_dataset(Path("photos"))
    (problem,) = opened.problems
    assert (problem.severity, problem.kind) == ("warning", "not-as-published")
    assert "partial copy: 85 of 647 images" in problem.found
    assert "partial copy: 85 of 647 images" in opened.reason


def test_a_published_split_is_applied_by_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    dataset(data, 4)
    for number, name in enumerate(("21_training", "22_training", "01_test", "02_test")):
        for kind in ("images", "masks"):
            (data / kind / f"{number:03}.png").rename(data / kind / f"{name}.png")
    registry.register(photos(data, name="drive", entry=True))
    assert {case.id: case.split for case in open_dataset(Path("drive")).cases} == {
        "01_test": "test", "02_test": "test", "21_training": "train", "22_training": "train",
    }  # fmt: skip


def test_a_split_of_the_dataset_s_own_is_kept(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", 4)
    (data / "val.txt").write_text("000\n")
    registry.register(photos(data, name="drive", entry=True))
    assert {case.split for case in open_dataset(Path("drive")).cases} == {"train", "val"}


def test_a_folder_that_has_moved_is_called_that(tmp_path: Path) -> None:
    registry.register(photos(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"photos: was registered in .*gone, which does not exist"):
        open_dataset(Path("photos"))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("kvasir-seg", "medseg data catalogue show kvasir-seg"),
        ("kvasir_seg", "Did you mean 'kvasir-seg'"),
        ("phots", "Did you mean 'photos'"),
        ("zzz", "medseg data add NAME FOLDER"),
        ("some/folder", "Check the name of the dataset's folder"),
    ],
)
def test_an_unknown_name_is_answered_with_what_to_do(
    tmp_path: Path, name: str, answer: str
) -> None:
    registry.register(photos(dataset(tmp_path / "data")))
    with pytest.raises(DataError) as caught:
        open_dataset(Path(name))
    assert "does not exist" in caught.value.found
    assert answer in caught.value.remedy


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "-x", "..", "ä", "a b"])
def test_what_could_be_a_path_or_an_option_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be used"):
        registry.register(photos(tmp_path, name=name))


def test_a_removed_name_is_gone_and_its_files_are_not(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    registry.register(photos(data))
    assert registry.remove("photos").folder == data
    assert registry.registrations() == {}
    assert len(open_dataset(data).cases) == 4
    with pytest.raises(DataError, match="photos: is not registered"):
        registry.remove("photos")


@pytest.mark.skipif(sys.platform == "win32", reason="its settings lie elsewhere")
def test_the_registry_lies_in_the_users_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/xdg")
    assert registry.registry_file() != Path("/etc/xdg/medseg/datasets.json")
    monkeypatch.delenv("MEDSEG_HOME")
    assert registry.registry_file() == Path("/etc/xdg/medseg/datasets.json")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert registry.registry_file() == Path.home() / ".config" / "medseg" / "datasets.json"


def test_windows_keeps_its_settings_in_appdata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDSEG_HOME")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("APPDATA", "roaming")
    assert registry.registry_file() == Path("roaming", "medseg", "datasets.json")


KEYS = st.sampled_from(
    ["folder", "entry", "layout", "group_pattern", "labels", "rgb", "objects", "differences"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(key=KEYS, value=JSON)
def test_a_damaged_registry_is_named_and_never_a_traceback(
    home: Path, key: str, value: Any
) -> None:
    registry.register(photos(home))
    stored = json.loads(registry.registry_file().read_text(encoding="utf-8"))
    stored["datasets"]["photos"][key] = value
    registry.registry_file().write_text(json.dumps(stored), encoding="utf-8")
    named = None
    try:
        registry.registrations()
    except DataError as error:
        named = error.where
    assert named in (None, str(registry.registry_file()))
    registry.registry_file().unlink()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"datasets": 3}', '{"datasets": {"a": 1}}']
)
def test_what_is_no_registry_is_named(home: Path, text: str) -> None:
    home.mkdir()
    (home / "datasets.json").write_text(text)
    with pytest.raises(DataError, match="is damaged"):
        open_dataset(Path("photos"))
