from __future__ import annotations

from collections.abc import Mapping

from medseg.data.case import Label, LabelMap
from medseg.data.outliers import FEWEST_CASES, find_outliers
from medseg.data.survey import CaseFacts

LABELS = LabelMap((Label("background", 0), Label("lesion", 1)))


def facts(
    count: int = 40, *, size: tuple[int, int] = (100, 100), share: float = 0.1, mean: float = 90
) -> list[CaseFacts]:
    """Ordinary cases that differ a little; ``size`` is (width, height)."""
    width, height = size
    area = width * height
    shown = [round(area * share * (1 + 0.02 * (index % 7))) for index in range(count)]
    return [
        CaseFacts(
            f"{index:03}", "", "", "", height, width, (area - pixels, pixels), mean + index % 9
        )
        for index, pixels in enumerate(shown)
    ]


def strange(**options: object) -> CaseFacts:
    (case,) = facts(1, **options)  # type: ignore[arg-type]
    return CaseFacts("strange", "", "", "", case.height, case.width, case.pixels, case.mean)


def found(cases: list[CaseFacts]) -> dict[str, Mapping[str, str]]:
    return {f"{far.kind}: {far.what}": far.cases for far in find_outliers(cases, LABELS)}


def test_ordinary_cases_are_no_outliers() -> None:
    assert found(facts()) == {}


def test_a_large_image_is_an_outlier_of_size_only() -> None:
    assert found([*facts(), strange(size=(300, 300))]) == {
        "outlier-size: size": {"strange": "300 x 300"}
    }


def test_a_long_image_is_an_outlier_of_shape() -> None:
    assert found([*facts(), strange(size=(200, 50))]) == {
        "outlier-size: aspect ratio": {"strange": "200 x 50"}
    }


def test_a_dark_image_is_an_outlier_of_intensity() -> None:
    assert found([*facts(), strange(mean=10)]) == {
        "outlier-intensity: mean brightness": {"strange": "10"}
    }


def test_a_speck_is_an_outlier_of_its_class() -> None:
    assert found([*facts(), strange(share=0.0002)]) == {
        "outlier-label: share of 'lesion'": {"strange": "0.02 %"}
    }


def test_an_empty_mask_is_no_outlier_of_its_class() -> None:
    assert found([*facts(), strange(share=0)]) == {}


def test_a_mixture_of_two_sizes_has_no_outliers() -> None:
    assert found([*facts(30), *facts(10, size=(300, 300))]) == {}


def test_few_cases_have_no_outliers() -> None:
    assert found([*facts(FEWEST_CASES - 2), strange(size=(900, 900))]) == {}
