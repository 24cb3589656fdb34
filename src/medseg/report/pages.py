"""Pages that hold everything they show: the templates beside this file, and their common style."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def load_page(name: str) -> Template:
    """A template of this folder, e.g. ``"report.html"``; what it shows is escaped."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def read(file: str) -> str:
        return resources.files("medseg.report").joinpath(file).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
