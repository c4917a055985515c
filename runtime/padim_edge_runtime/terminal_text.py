"""Texts of others, such as names of files, as a terminal may safely show them."""

from __future__ import annotations

import re

__all__ = ["visible"]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that move the cursor, change colours or begin a new line."""


def visible(text: str) -> str:
    r"""Return a text in one line in which control characters are written as escapes, such as `\x1b`.

    Raw, the control characters in a name would rewrite the lines of a terminal, or make one line look like two.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
