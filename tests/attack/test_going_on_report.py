"""Names from others change no tag and no attribute of the HTML report."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from toolkit.test_report import Page, made, page

HOSTILE = (
    "</title></style></svg><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "<!-- <b> ]]> <![CDATA[ <?xml ?>",
    "&lt;script&gt; &#60;b&#62; &quot;",
    "{{ 7 * 7 }} {% raw %} {# x #} ${7*7}",
    "a\x00\x01\x08\x0b\x0c\x1b[31m\x7f\x85b",
    "a\u202egnp.\u2028\u2029\ufeffb",
    "lone \ud800 and \udcff",
    "style=x;background:url(//evil.example/x)",
    "$\\frac{1}{0}$ \\input{/etc/passwd}",
)
"""Names of classes, kinds, files and devices."""


def shape(found: Page) -> tuple[Counter[str], Counter[str]]:
    """Number of tags, and of names of attributes, without those that places to break a line and plots have."""
    tags = Counter(tag for tag in found.tags if tag not in ("wbr", "g", "use", "path", "defs", "text"))
    return tags, Counter({name for name, _ in found.attributes})


def report(folder: Path, name: str) -> Page:
    each = made(name, kind=name)
    cases = tuple(dataclasses.replace(case, name=f"{name}.png", reason=name) for case in each.misses)
    each = dataclasses.replace(each, misses=cases, notes=(name,), model={"file": name, "device": name})
    point = dataclasses.replace(each.points[0], name=name, command=name)
    return page(folder, dataclasses.replace(each, points=(point,)), title=name)


@pytest.mark.parametrize("name", [HOSTILE[0], *(pytest.param(each, marks=pytest.mark.slow) for each in HOSTILE[1:])])
def test_a_hostile_name_is_text(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    expected = shape(report(tmp_path / "a", "harmless"))
    found = report(tmp_path / "b", name)
    assert shape(found) == expected
    assert not [attribute for attribute, _ in found.attributes if attribute.startswith("on")]
    assert name in found.text or not name.isprintable()
    found.source.encode()  # no lone surrogate is left
