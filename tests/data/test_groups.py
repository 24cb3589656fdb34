from __future__ import annotations

from pathlib import Path

import pytest

from medseg.data.case import Case
from medseg.data.groups import (
    check_attribute,
    column_of,
    group_of,
    groups_by,
    marked_attributes,
)
from medseg.data.source import File
from medseg.errors import DataError


def case(name: str, **attributes: str) -> Case:
    columns = {key.replace("__", ":"): value for key, value in attributes.items()}
    return Case(name, File(Path(f"{name}.png")), attributes=columns)


def test_columns_called_group_name_attributes_and_no_others_do() -> None:
    cases = [case("a", group="1", group__sex="f", age="40"), case("b", **{"group:": "?"})]
    assert marked_attributes(cases) == ("group", "sex")
    assert [column_of(name) for name in marked_attributes(cases)] == ["group", "group:sex"]


def test_any_column_can_be_chosen() -> None:
    cases = [case("a", site="x"), case("b", site="y"), case("c")]
    assert groups_by(cases, "site") == {"a": "x", "b": "y"}


@pytest.mark.parametrize("cell", ["", " ", "unknown", "Unknown", "N/A", "nan"])
def test_cells_may_say_that_nothing_is_known(cell: str) -> None:
    assert groups_by([case("a", group__sex=cell)], "sex") == {}


def test_slices_have_the_group_that_all_of_them_have() -> None:
    same = [case("v/1", group__sex="f"), case("v/2", group__sex="f")]
    assert group_of(same, "sex") == "f"
    assert group_of([*same, case("v/3", group__sex="m")], "sex") is None


def test_a_column_that_is_not_there_is_an_error_that_names_the_nearest() -> None:
    cases = [case("a", group__sex="f"), case("b", site="x")]
    check_attribute(cases, "sex", "data")
    check_attribute(cases, "site", "data")
    with pytest.raises(DataError, match="Did you mean 'sex'"):
        check_attribute(cases, "sax", "data")
