from __future__ import annotations

import pytest

from medseg.benchmark.figures import curves
from medseg.benchmark.reading import Results


def test_a_band_goes_from_the_lowest_to_the_highest_seed(results: Results) -> None:
    # Written as mean - 0.3 / epoch + 0.01 seed.
    epoch, low, mean, high = curves._bands(results, "unet", "glas")[0]
    assert epoch == 1
    assert (low, mean, high) == pytest.approx((0.48, 0.49, 0.50))
