from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.engine.plan import plan_batch_size, plan_epochs, resolve
from medseg.recipe import Recipe, parse_recipe

COUNTS = st.integers(1, 100_000)


@given(cases=COUNTS)
def test_epochs_show_thirty_thousand_images_within_30_and_300_epochs(cases: int) -> None:
    epochs = plan_epochs(cases)
    assert 30 <= epochs <= 300
    if 100 < cases < 1000:
        assert abs(epochs * cases - 30_000) <= cases / 2


@given(cases=COUNTS, size=st.integers(16, 4096), device=st.sampled_from(["cpu", "cuda", "mps"]))
def test_a_batch_leaves_four_steps_an_epoch_or_is_one_image(
    cases: int, size: int, device: str
) -> None:
    batch = plan_batch_size(cases, size, device)
    assert 1 <= batch <= 16
    assert batch == 1 or cases // batch >= 4


@pytest.mark.parametrize(
    ("size", "batch"), [(64, 8), (128, 8), (256, 3), (352, 2), (512, 1), (1024, 1)]
)
def test_a_cpu_takes_fewer_of_larger_images(size: int, batch: int) -> None:
    assert plan_batch_size(1000, size, "cpu") == batch


@given(cases=st.integers(8, 5000), processes=st.integers(1, 4), channels=st.sampled_from([1, 3]))
def test_nothing_is_left_to_choose_and_processes_share_evenly(
    cases: int, processes: int, channels: int
) -> None:
    recipe = resolve(
        Recipe(), cases=cases, layout="folders", channels=channels, device="cpu", precision="fp32",
        processes=processes,
    )  # fmt: skip
    text = str(recipe.train.model_dump()) + str(recipe.data.channels)
    assert "auto" not in text
    assert recipe.data.channels == channels
    assert isinstance(recipe.train.batch_size, int)
    assert recipe.train.batch_size % processes == 0
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe


def test_what_the_user_chose_is_kept() -> None:
    chosen = parse_recipe({"train": {"epochs": 7, "batch_size": 3, "patience": 2}})
    recipe = resolve(
        chosen,
        cases=500,
        layout="folders",
        channels=3,
        device="cuda",
        precision="bf16",
        processes=1,
    )
    train = recipe.train
    assert (train.epochs, train.batch_size, train.patience, train.precision) == (7, 3, 2, "bf16")
