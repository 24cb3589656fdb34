from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmark.grids import tiny
from medseg.benchmark.published import read_published
from medseg.benchmark.spec import parse_spec, read_yaml
from medseg.errors import MedsegError


def test_names_and_paths_become_entries(photos: Path, tmp_path: Path) -> None:
    spec = parse_spec(tiny(tmp_path, data=str(photos), unseen=[str(photos)], seeds=2))
    assert [each.name for each in spec.systems] == ["good"]
    assert [each.name for each in spec.data] == ["photos"]
    assert spec.data == spec.unseen
    assert spec.seeds == (0, 1)
    assert spec.metrics == ("dice", "hd95")


def test_unseen_data_may_be_named_like_those_trained_on(photos: Path, tmp_path: Path) -> None:
    data = {"name": "p", "path": str(photos), "group_pattern": r"^\d\d"}
    spec = parse_spec(tiny(tmp_path, data=data, unseen="p"))
    assert spec.unseen == spec.data


def test_what_is_saved_is_the_same_spec_from_any_folder(photos: Path, tmp_path: Path) -> None:
    values = tiny(tmp_path, data=[{"name": "p", "path": str(photos), "layout": "folders"}])
    spec = parse_spec({**values, "systems": ["good.py"]}, base=tmp_path)
    spec.save(tmp_path / "elsewhere" / "spec.yaml")
    saved = tmp_path / "elsewhere" / "spec.yaml"
    assert parse_spec(read_yaml(saved), base=saved.parent) == spec


def test_relative_paths_start_at_the_specs_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to(photos)
    spec = parse_spec(tiny(tmp_path, data=["here"]), base=tmp_path)
    assert spec.data[0].path == str(photos.resolve())


def test_saved_paths_start_at_the_files_folder(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    split = tmp_path / "split.csv"
    split.write_text("case,split\n")
    entry = {"path": "photos", "split": "split.csv"}
    spec = parse_spec(tiny(tmp_path, data=[entry]), base=tmp_path)
    spec.save(tmp_path / "a" / "spec.yaml")
    saved = read_yaml(tmp_path / "a" / "spec.yaml")
    assert saved["systems"][0]["system"] == "../good.py"
    assert (saved["data"][0]["path"], saved["data"][0]["split"]) == ("../photos", "../split.csv")


def test_unseen_data_are_those_trained_on_whether_shown_or_not(
    photos: Path, tmp_path: Path
) -> None:
    data = {"path": str(photos), "show": False}
    spec = parse_spec(tiny(tmp_path, data=data, unseen=str(photos)))
    assert (spec.data[0].show, spec.unseen[0].show) == (False, True)


def test_systems_of_words_are_taken_and_those_that_are_clicked_in_are_not(
    photos: Path, tmp_path: Path
) -> None:
    values = tiny(tmp_path, data=str(photos))
    spec = parse_spec({**values, "systems": ["vlsm-adapter"]})
    assert [each.system for each in spec.systems] == ["vlsm-adapter"]
    with pytest.raises(MedsegError, match="scribbleprompt is pointed at"):
        parse_spec({**values, "systems": ["scribbleprompt"]})


def test_settings_of_a_system_come_after_those_of_all(photos: Path, tmp_path: Path) -> None:
    wide = {"name": "wide", "system": str(tmp_path / "good.py"), "set": {"network": {"width": 8}}}
    spec = parse_spec(tiny(tmp_path, data=str(photos), systems=[wide, str(tmp_path / "good.py")]))
    assert spec.recipe(spec.systems[0]).network == {"width": 8}
    assert spec.recipe(spec.systems[1]).network == {"width": 4}
    assert spec.recipe(spec.systems[0]).train.epochs == 1


def test_settings_of_a_dataset_hold_for_all_trainings_on_it(photos: Path, tmp_path: Path) -> None:
    data = {"path": str(photos), "set": {"train": {"epochs": 3}, "data.max_megapixels": 2}}
    slow = {"name": "slow", "system": str(tmp_path / "good.py"), "set": {"train.epochs": 5}}
    values = tiny(tmp_path, data=data, systems=[str(tmp_path / "good.py"), slow])
    spec = parse_spec({**values, "unseen": str(photos)})
    good, slow_one = (spec.recipe(system, spec.data[0]) for system in spec.systems)
    assert (good.train.epochs, slow_one.train.epochs) == (3, 5)
    assert spec.data_recipe(spec.data[0]).data.max_megapixels == 2
    spec.save(tmp_path / "spec.yaml")
    assert parse_spec(read_yaml(tmp_path / "spec.yaml"), base=tmp_path).data == spec.data


def test_unseen_data_have_no_settings(photos: Path, tmp_path: Path) -> None:
    unseen = {"name": "other", "path": str(photos), "set": {"train.epochs": 3}}
    with pytest.raises(MedsegError, match="other: set: nothing is trained on unseen data"):
        parse_spec(tiny(tmp_path, data=str(photos), unseen=unseen))


@pytest.mark.parametrize(
    ("values", "named", "remedy"),
    [
        ({"systems": ["unett"]}, "no system 'unett'", "Did you mean 'unet'?"),
        ({"systems": ["none.py"]}, "none.py", "It is not"),
        ({"systems": []}, "systems", "at least 1"),
        ({"systems": 3}, "systems", "valid tuple"),
        ({"systems": [3]}, "3 is no system", "Name a system"),
        ({"systems": [{"name": "unet", "sets": 1}]}, "systems.0.sets", "Did you mean 'set'?"),
        ({"systems": ["unet", "unet"]}, "'unet'", "a name each"),
        ({"systems": [{"name": "a/b", "system": "unet"}]}, "'a/b'", "letters"),
        ({"data": ["photoz"]}, "photoz", "Check the name"),
        ({"data": ["kvasir_sge"]}, "kvasir_sge", "Did you mean 'kvasir-seg'?"),
        ({"data": [{"layout": "auto"}]}, "names no dataset", "path: FOLDER"),
        ({"seeds": 0}, "seeds", "at least 1"),
        ({"seeds": "many"}, "'many'", "valid tuple"),
        ({"seeds": [0, 0]}, "one is there twice", ""),
        ({"seeds": [0.5]}, "0.5", "integer"),
        ({"seeds": True}, "True", "number of seeds"),
        ({"metrics": ["dise"]}, "'dise'", "Did you mean 'dice'?"),
        ({"seed": 3}, "spec: seed", "Did you mean 'seeds'?"),
        ({"set": ["train.epoch=3"]}, "train.epoch", "Did you mean 'train.epochs'?"),
        ({"set": {"network.widht": 3}}, "network.widht", "Did you mean 'width'?"),
        ({"set": {"seed": 3}}, "set: seed", "seeds"),
        ({"set": {"data.group_pattern": "x"}}, "set: data.group_pattern", "each dataset"),
        ({"set": 3}, "set", "valid tuple"),
        ({"data": [{"path": ".", "set": {"seed": 3}}]}, "set: seed", "seeds"),
        ({"data": [{"path": ".", "set": {"train.epoch": 3}}]}, "epoch", "Did you mean"),
        ({"empty_policy": "two"}, "'two'", "'skip'"),
        ({"convention": "monia"}, "spec: convention", "Did you mean 'monai'?"),
        ({"data": [{"path": ".", "show": "perhaps"}]}, "'perhaps'", "boolean"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    photos: Path, tmp_path: Path, values: dict[str, Any], named: str, remedy: str
) -> None:
    with pytest.raises(MedsegError) as refused:
        parse_spec({**tiny(tmp_path, data=str(photos)), **values})
    assert named in str(refused.value)
    assert remedy in str(refused.value)


def test_a_system_may_not_have_cases_of_its_own(photos: Path, tmp_path: Path) -> None:
    entry = {"system": str(tmp_path / "good.py"), "set": ["data.ratios=[0.5,0.2,0.3]"]}
    with pytest.raises(MedsegError, match=r"good: set: data\.ratios: it would give systems"):
        parse_spec({**tiny(tmp_path, data=str(photos)), "systems": [entry]})


def test_unseen_data_may_not_borrow_the_name_of_others(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(MedsegError, match="'photos' is also the name of other data"):
        parse_spec(tiny(tmp_path, data=str(photos), unseen=str(tmp_path / "photos")))


def test_a_changed_network_file_is_refused_by_its_hash(photos: Path, tmp_path: Path) -> None:
    spec = parse_spec(tiny(tmp_path, data=str(photos)))
    (tmp_path / "good.py").write_text((tmp_path / "good.py").read_text() + "\n")
    with pytest.raises(MedsegError, match=r"good\.py has changed since"):
        parse_spec(spec.dump())


@given(
    st.dictionaries(
        st.sampled_from(["systems", "data", "unseen", "seeds", "set", "metrics", "folds", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["name", "path", "system", "set", "hash"]), inner, max_size=3
                )
            ),
            max_leaves=5,
        ),
    )
)
def test_whatever_a_file_holds_is_refused_in_words(values: dict[str, Any]) -> None:
    with pytest.raises(MedsegError):
        parse_spec({"systems": "no-such-system", **values})


@pytest.mark.parametrize("text", ["- 1", "3", "a: [", "\0", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(MedsegError, match=r"spec\.yaml: it"):
        read_yaml(tmp_path / "spec.yaml")


PUBLISHED = {
    "source": "Someone 2025",
    "protocol": "880/120 split, 352 px",
    "entries": [{"system": "unet", "data": "photos", "metric": "dice", "value": 0.8, "n": 100}],
}


def test_published_numbers_are_read(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(PUBLISHED))
    entry = {**PUBLISHED["entries"][0], "note": ""}  # type: ignore[dict-item]
    assert read_published(tmp_path / "p.yaml") == {**PUBLISHED, "entries": [entry]}


@pytest.mark.parametrize(
    ("change", "named", "remedy"),
    [
        ({"value": 91.3}, "dice is 91.3", "0.913"),
        ({"metric": "dise"}, "'dise'", "'dice'"),
        ({"valeu": 1}, "entries.0.valeu", "'value'"),
        ({"value": "high"}, "'high'", "number"),
    ],
    ids=str,
)
def test_a_published_number_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, Any], named: str, remedy: str
) -> None:
    entry = {**PUBLISHED["entries"][0], **change}  # type: ignore[dict-item]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({**PUBLISHED, "entries": [entry]}))
    with pytest.raises(MedsegError) as refused:
        read_published(tmp_path / "p.yaml")
    assert named in str(refused.value)
    assert remedy in str(refused.value)


def test_published_numbers_name_their_protocol(tmp_path: Path) -> None:
    values = {key: value for key, value in PUBLISHED.items() if key != "protocol"}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(MedsegError, match="protocol: it is missing"):
        read_published(tmp_path / "p.yaml")
