from __future__ import annotations

import pytest
import torch

from medseg.networks.images.dropout_unet import DropoutUNet
from medseg.nn.blocks import count_parameters

from .checks import fill_with_waves


def test_it_has_the_parameters_of_the_official_encoder_and_decoder() -> None:
    assert count_parameters(DropoutUNet(1, 4)) == 1_813_764


# Computed with UNet_2d of github.com/DeepMed-Lab-ECNU/BCP, code/networks/unet.py, with these
# weights.
def test_its_logits_are_the_official_ones() -> None:
    network = DropoutUNet(1, 4).eval()
    fill_with_waves(network)
    image = torch.sin(torch.arange(2 * 32 * 48) * 0.37).reshape(2, 1, 32, 48)
    with torch.no_grad():
        logits = network(image)
    first, last = [1.5597, 0.9097, 0.2172, -0.4525], [-0.6639, -0.9882, -1.2185, -1.3227]
    assert logits[0, :, 5, 7].tolist() == pytest.approx(first, abs=2e-4)
    assert logits[1, :, 31, 47].tolist() == pytest.approx(last, abs=2e-4)
    assert float(logits.std()) == pytest.approx(4.5384, abs=1e-3)


def test_dropout_grows_with_depth_and_ends_with_the_encoder() -> None:
    network = DropoutUNet()
    shares = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]
    assert shares == [0.05, 0.1, 0.2, 0.3, 0.5, *[0.0] * 4]
