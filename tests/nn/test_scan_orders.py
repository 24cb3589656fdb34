from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from medseg.nn import scan_orders
from medseg.nn.scan_orders import cross_merge, cross_scan, inverse

ORDERS: dict[str, Callable[[Sequence[int]], Tensor]] = {
    "raster": scan_orders.raster,
    "column": scan_orders.column,
    "snake": scan_orders.snake,
    "windows of 2": lambda size: scan_orders.windows(size, 2),
    "windows of 3": lambda size: scan_orders.windows(size, 3),
    "across": scan_orders.across,
    "every second, from four offsets": lambda size: torch.cat(
        [
            scan_orders.strided(size, 2, tuple(offset))
            for offset in torch.cartesian_prod(*[torch.arange(2)] * len(size)).tolist()
        ]
    ),
}
SIZES = st.lists(st.integers(1, 7), min_size=2, max_size=3)


@pytest.mark.parametrize("name", ORDERS)
@given(size=SIZES)
def test_an_order_visits_every_place_once_and_its_inverse_undoes_it(
    name: str, size: list[int]
) -> None:
    order = ORDERS[name](size)
    sequence = scan_orders.raster(size)[order]
    assert torch.equal(sequence.sort().values, scan_orders.raster(size))
    assert torch.equal(sequence[inverse(order)], scan_orders.raster(size))


@given(size=SIZES)
def test_a_snake_only_steps_to_neighbours(size: list[int]) -> None:
    order = scan_orders.snake(size)
    grid = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij")).flatten(1)
    steps = grid[:, order].diff().abs().sum(0)
    assert (steps == 1).all()


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("column", (2, 3), [0, 3, 1, 4, 2, 5]),
        ("snake", (2, 3), [0, 1, 2, 5, 4, 3]),
        ("windows of 2", (2, 3), [0, 1, 3, 4, 2, 5]),
        ("across", (2, 1, 3), [0, 3, 1, 4, 2, 5]),
        ("every second, from four offsets", (2, 3), [0, 2, 1, 3, 5, 4]),
    ],
)
def test_small_grids_are_visited_as_drawn(
    name: str, size: tuple[int, ...], expected: list[int]
) -> None:
    assert ORDERS[name](size).tolist() == expected


def test_cross_scan_has_the_orders_of_its_four_directions() -> None:
    x = torch.randn(2, 3, 4, 5)
    flat, size = x.flatten(2), (4, 5)
    rows, columns = flat[..., scan_orders.raster(size)], flat[..., scan_orders.column(size)]
    expected = torch.stack([rows, columns, rows.flip(-1), columns.flip(-1)], 1)
    assert torch.equal(cross_scan(x), expected)


@given(height=st.integers(1, 6), width=st.integers(1, 6))
def test_merging_what_was_scanned_is_four_times_the_map(height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width)
    torch.testing.assert_close(cross_merge(cross_scan(x), (height, width)), 4 * x)
