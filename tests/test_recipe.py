from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import RecipeError
from medseg.recipe import Recipe, apply_settings, known_keys, load_recipe, parse_recipe


def from_settings(*texts: str) -> Recipe:
    return parse_recipe(apply_settings({}, texts))


def dig(recipe: Recipe, key: str) -> Any:
    value: Any = recipe.model_dump()
    for part in key.split("."):
        value = value[part]
    return value


def test_the_defaults_come_back_from_yaml(tmp_path: Path) -> None:
    Recipe().save(tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == Recipe()


def test_a_saved_recipe_names_every_key(tmp_path: Path) -> None:
    Recipe().save(tmp_path / "recipe.yaml")
    saved = yaml.safe_load((tmp_path / "recipe.yaml").read_text(encoding="utf-8"))
    for key in known_keys():
        values = saved
        for name in key.split("."):
            assert name in values, key
            values = values[name]


def test_an_empty_mapping_is_the_default_recipe() -> None:
    assert parse_recipe({}) == Recipe()


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("data.imagesize", "data.image_size"),
        ("train.epoch", "train.epochs"),
        ("optimiser.learning_rate", "optimizer.learning_rate"),
        ("augment.rotation", "augment.rotate"),
        ("sead", "seed"),
    ],
)
def test_an_unknown_key_is_an_error_naming_the_nearest(key: str, meant: str) -> None:
    section, _, name = key.partition(".")
    nested: dict[str, Any] = {section: {name: 1} if name else 1}
    for read in (lambda: parse_recipe(nested), lambda: from_settings(f"{key}=1")):
        with pytest.raises(RecipeError, match="there is no such key") as caught:
            read()
        assert meant in str(caught.value) or f"'{meant.split('.')[0]}'" in str(caught.value)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "path", "value", "allowed"),
    [
        ("data.image_size=8", "data.image_size", "8", "greater than or equal to 16"),
        ("data.image_size=big", "data.image_size", "'big'", "valid integer"),
        (
            "data.channels=0",
            "data.channels",
            "0",
            "'auto' or .* greater than",
        ),
        ("data.ratios=[1, 2]", "data.ratios.2", "[1, 2]", "Field required"),
        ("data.ratios=[1, 2, x]", "data.ratios.2", "'x'", "valid number"),
        ("data.ratios=[0.5, 0.5, 0.5]", "data", "0.5", "must sum to 1"),
        ("data.folds=0", "data.folds", "0", "'auto' or .* than or equal to 1"),
        ("data.group_pattern=[1]", "data.group_pattern", "[1]", "valid string"),
        ("train.epochs=0", "train.epochs", "0", "'auto' or .* than or equal to 1"),
        ("train.epochs=many", "train.epochs", "'many'", "'auto' or .* valid integer"),
        ("train.batch_size=2.5", "train.batch_size", "2.5", "'auto' or .* valid integer"),
        ("train.precision=fp8", "train.precision", "'fp8'", "'auto', 'fp32', 'bf16' or 'fp16'"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate", "0", "greater than 0"),
        ("optimizer.learning_rate=inf", "optimizer.learning_rate", "inf", "finite"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate", "nan", "finite"),
        ("loss.dice=-1", "loss.dice", "-1", "greater than or equal to 0"),
        ("augment.rotate=200", "augment.rotate", "200", "less than or equal to 180"),
        ("predict.threshold=1", "predict.threshold", "1", "less than 1"),
        ("method=supervise", "method", "'supervise'", "'supervised'"),
        ("seed=", "seed", "None", "valid integer"),
    ],
)
def test_a_bad_value_is_an_error_naming_path_value_and_what_is_allowed(
    setting: str, path: str, value: str, allowed: str
) -> None:
    with pytest.raises(RecipeError, match=allowed) as caught:
        from_settings(setting)
    assert caught.value.where == f"recipe: {path}"
    assert value in caught.value.found


def test_a_loss_without_terms_is_an_error() -> None:
    with pytest.raises(RecipeError, match="at least one weight of the loss must be positive"):
        from_settings("loss.dice=0", "loss.cross_entropy=0")


@pytest.mark.parametrize(
    "content",
    [
        b"data: [unclosed",
        b"a: b: c",
        b"\x89PNG\r\n\x1a\n\x00\x00\xff",
        b"\xff\xfe\x00\x01",
        b"seed: 2001-99-99",
        b"seed: !!python/object/apply:os.getcwd []",
        b"[" * 1000,
        b"",
        b"- 1\n- 2",
        b"just text",
        b"1: 2",
        b"data: 7",
    ],
)
def test_a_file_that_is_no_recipe_is_an_error_naming_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(path)


def test_a_missing_file_is_an_error_naming_it(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml"):
        load_recipe(tmp_path / "none.yaml")


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=60))
def test_no_content_of_a_file_causes_another_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with suppress(RecipeError):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("2.5", 2.5),
        ("7", 7),
        ("true", True),
        ("null", None),
        ("[8, 16]", [8, 16]),
        ("{a: 1}", {"a": 1}),
        ("se", "se"),
        ("'7'", "7"),
        ("'1e5'", "1e5"),
        ("a=b", "a=b"),
    ],
)
def test_a_settings_text_is_read_as_a_person_means_it(text: str, value: Any) -> None:
    result = apply_settings({}, [f"network.option={text}"])
    found = result["network"]["option"]
    assert (found, type(found)) == (value, type(value))


def test_nested_network_options_join_those_that_are_there() -> None:
    values = {"network": {"kernel": 3, "gate": "se"}}
    result = apply_settings(values, ["network.kernel=5", "network.widths=[4, 8]"])
    assert result == {"network": {"kernel": 5, "gate": "se", "widths": [4, 8]}}
    assert values == {"network": {"kernel": 3, "gate": "se"}}


def test_the_last_setting_of_a_key_wins() -> None:
    assert from_settings("seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("seed", "it has no '='"),
        ("seed=[", "is not YAML"),
        ("seed=2001-99-99", "is not YAML"),
        ("network=3", "there is no such key"),
        ("data=3", "there is no such key"),
    ],
)
def test_a_setting_that_cannot_be_read_is_an_error(setting: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem) as caught:
        apply_settings({}, [setting])
    assert caught.value.where.startswith("--set ")


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "system": st.sampled_from(["unet", "med2d-segnet", "folder/my net.py"]),
    "seed": st.integers(0, 2**40),
    "data.image_size": st.integers(16, 4096),
    "data.channels": st.sampled_from(["auto", 1, 3]),
    "data.snap_masks": st.sampled_from(["auto", "always", "never"]),
    "data.max_megapixels": st.floats(1e-6, 1e12),
    "data.group_pattern": st.none() | st.text(max_size=20),
    "data.fold": st.none() | st.integers(0, 4),
    "optimizer.learning_rate": st.floats(1e-30, 1e10),
    "optimizer.warmup": st.floats(0, 1, exclude_max=True),
    "train.epochs": st.just("auto") | st.integers(1, 10**6),
    "train.tensorboard": st.booleans(),
    "augment.scale": st.tuples(st.floats(0.1, 1), st.floats(1, 9)),
    "augment.rotate": st.floats(0, 180),
}


@given(given_values=st.fixed_dictionaries({}, optional=VALUES))
@settings(deadline=None, max_examples=40)
def test_every_value_that_is_set_comes_back(
    tmp_path_factory: pytest.TempPathFactory, given_values: dict[str, Any]
) -> None:
    texts = [
        f"{key}={yaml.safe_dump(list(v) if isinstance(v, tuple) else v, default_flow_style=True)}"
        for key, v in given_values.items()
    ]
    recipe = from_settings(*texts)
    path = tmp_path_factory.getbasetemp() / "set.yaml"
    recipe.save(path)
    for made in (recipe, load_recipe(path)):
        assert {key: dig(made, key) for key in given_values} == given_values
    untouched = set(known_keys()) - given_values.keys()
    assert all(dig(recipe, key) == dig(Recipe(), key) for key in untouched)


@given(value=st.floats(1e-30, 1e10))
def test_a_number_may_be_written_as_python_writes_it(value: float) -> None:
    made = from_settings(f"optimizer.learning_rate={value!r}")
    assert made.optimizer.learning_rate == value
