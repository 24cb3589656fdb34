from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from images.checks import fill_with_waves, on_meta

from medseg.models import create_model
from medseg.networks.volumes.stu_net import STUNet, from_official, strides_for
from medseg.nn.blocks import count_parameters
from medseg.systems import load_card
from stu_net_names import official_names

WIDTHS = (4, 6, 8, 8, 10, 10)
MIXED = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1))


@pytest.mark.parametrize(
    ("system", "at_105", "at_14"),
    [
        ("stu-net-s", 14_596_941, 14_551_350),
        ("stu-net", 58_262_669, 58_171_942),
        ("stu-net-l", 440_302_605, 440_121_606),
        ("stu-net-h", 1_457_326_221, 1_457_054_950),
    ],
)
def test_every_size_has_the_parameters_of_the_official_one(
    system: str, at_105: int, at_14: int
) -> None:
    options = load_card(system).options
    counts = [count_parameters(on_meta(STUNet, 1, classes, **options)) for classes in (105, 14)]
    assert counts == [at_105, at_14]


def test_one_set_of_weights_fits_every_plan_of_strides() -> None:
    torch.manual_seed(0)
    even, mixed = STUNet(widths=WIDTHS), STUNet(widths=WIDTHS, strides=MIXED)
    mixed.load_state_dict(even.state_dict())
    x = torch.randn(1, 1, 6, 32, 32)
    with torch.inference_mode():
        assert mixed.eval()(x).shape == even.eval()(x).shape == x.shape


def test_a_volume_is_padded_to_what_its_strides_divide() -> None:
    assert STUNet(widths=WIDTHS, strides=MIXED).multiple == [8, 16, 16]


def test_weights_of_waves_give_the_numbers_of_the_official_network() -> None:
    """Of github.com/uni-medical/STU-Net at 0652eaf, its module for nnU-Net 2."""
    network = fill_with_waves(STUNet(2, 3, widths=WIDTHS, depth=2, strides=MIXED))
    x = torch.sin(torch.arange(2 * 16 * 32 * 16, dtype=torch.float64) * 0.37).float()
    with torch.inference_mode():
        logits = network(x.view(1, 2, 16, 32, 16))
    found = [logits.mean().item(), logits.std().item(), *logits[0, :2, 3, 4, 5].tolist()]
    expected = [-0.00760857, 0.71701413, -1.17580700, -0.18307066]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_side_heads_are_repeated_to_full_size_from_shallow_to_deep() -> None:
    network = STUNet(num_classes=2, widths=WIDTHS).eval()
    x = torch.randn(1, 1, 33, 32, 32)
    with torch.inference_mode():
        first, *sides = network.forward_all(x)
        assert torch.equal(first, network(x))
    assert [tuple(each.shape) for each in sides] == [(1, 2, 33, 32, 32)] * 4
    for level, side in enumerate(sides, 1):
        step = 2**level
        blocks = side[..., :32, :, :].unfold(2, step, step).unfold(3, step, step)
        assert torch.equal(blocks.amax((-2, -1)), blocks.amin((-2, -1)))


def test_official_names_become_ours_and_nothing_is_lost() -> None:
    weights = STUNet(2, 3, widths=WIDTHS, depth=2).state_dict()
    found = from_official(official_names(weights))
    assert found.keys() == weights.keys()
    assert all(found[name] is value for name, value in weights.items())


def test_prefixes_of_parallel_modules_are_dropped() -> None:
    weights = STUNet(widths=WIDTHS).state_dict()
    prefixed = {f"module.{name}": value for name, value in official_names(weights).items()}
    assert from_official(prefixed).keys() == weights.keys()


def test_published_weights_tell_channels_classes_and_size() -> None:
    weights = STUNet(2, 5, widths=WIDTHS, depth=2).state_dict()
    found = STUNet.published(official_names(weights))
    assert (found.in_channels, found.num_classes) == (2, 5)
    assert found.options == {"widths": list(WIDTHS), "depth": 2}


def test_other_weights_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"decoder\.weight is no part of STU-Net"):
        STUNet.published({"decoder.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"no 'encoder.0.0.conv1.weight'"):
        STUNet.published({"seg_outputs.0.bias": torch.zeros(1)})


def test_as_released_leaves_biases_as_pytorch_draws_them() -> None:
    ours, released = STUNet(widths=WIDTHS), STUNet(widths=WIDTHS, as_released=True)
    assert not ours.encoder[0][0].conv1.bias.any()
    assert released.encoder[0][0].conv1.bias.any()
    deviation = ours.decoder[0][0].conv1.weight.std().item()
    assert deviation == pytest.approx(math.sqrt(2 / 1.0001 / (2 * WIDTHS[-2] * 27)), rel=0.1)


@given(patch=st.tuples(*[st.integers(1, 200)] * 3))
def test_strides_halve_an_axis_while_four_voxels_are_left(patch: tuple[int, int, int]) -> None:
    strides = strides_for(patch)
    assert len(strides) == 5
    for axis, side in enumerate(patch):
        left = side
        for stride in strides:
            assert stride[axis] == (2 if left // 2 >= 4 else 1)
            left = math.ceil(left / stride[axis])


def test_strides_of_a_flat_patch_make_a_network() -> None:
    strides = strides_for((8, 64, 64))
    assert strides == ((2, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2), (1, 1, 1))
    network = create_model("stu-net", in_channels=1, widths=WIDTHS, strides=strides)
    assert network(torch.randn(1, 1, 8, 64, 64)).shape == (1, 1, 8, 64, 64)
