"""The templates of the report's pages, and the Jinja environment that fills them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["environment"]


def environment(**filters: Callable[..., str]) -> Environment:
    """Return an environment with the templates of this folder; all values are escaped.

    Args:
        filters: Functions that turn a value into text, by the names that the templates call them.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_template),
    )
    made.filters.update(filters)
    return made


def _template(name: str) -> str:
    return resources.files("padim_edge.evaluation.report").joinpath(name).read_text("utf-8")
