"""Published numbers, to be set beside those of a benchmark and never among them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from medseg.benchmark.spec import read_yaml
from medseg.errors import MedsegError, nearest
from medseg.metrics.panel import METRICS
from medseg.recipe import Section


class PublishedNumber(Section):
    """One number of a publication."""

    system: Annotated[str, Field(min_length=1)]
    """As the publication calls it."""
    data: Annotated[str, Field(min_length=1)]
    """The name of the dataset; that of the benchmark, to be set beside it."""
    metric: str = "dice"
    value: float
    """On the scale that the benchmark uses: shares from 0 to 1."""
    n: Annotated[int, Field(ge=1)] | None = None
    """How many cases it was measured on."""
    note: str = ""


class Published(Section):
    """The numbers of one source, all measured alike."""

    source: Annotated[str, Field(min_length=1)]
    """A citation or link."""
    protocol: Annotated[str, Field(min_length=1)]
    """How they were measured: split, image size, how the metric was computed."""
    entries: Annotated[tuple[PublishedNumber, ...], Field(min_length=1)]


def read_published(path: Path) -> dict[str, Any]:
    """Read a YAML file of `Published`.

    Raises:
        MedsegError: naming the key, what was found and what is allowed.
    """
    values = read_yaml(path)
    try:
        published = Published.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{path}: {'.'.join(map(str, first['loc']))}"
        if first["type"] == "extra_forbidden":
            model = Published if len(first["loc"]) == 1 else PublishedNumber
            hint = nearest(str(first["loc"][-1]), model.model_fields)
            raise MedsegError(where, "there is no such key", hint) from error
        if first["type"] == "missing":
            raise MedsegError(where, "it is missing", f"Add {first['loc'][-1]}") from error
        raise MedsegError(where, f"{first['input']!r} is not allowed", first["msg"]) from error
    for place, entry in enumerate(published.entries):
        where = f"{path}: entries.{place}"
        if entry.metric not in METRICS:
            raise MedsegError(
                where, f"there is no metric {entry.metric!r}", nearest(entry.metric, METRICS)
            )
        if not METRICS[entry.metric].distance and not 0 <= entry.value <= 1:
            raise MedsegError(
                where,
                f"{entry.metric} is {entry.value:g}, which is no share",
                f"Write {entry.value / 100:g} for {entry.value:g} %",
            )
    return published.model_dump(mode="json")
