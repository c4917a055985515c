"""xdist sends the tests of a file to one process; otherwise each process would make the module's models again."""

from __future__ import annotations

import pytest

_RUN: list[str] = []
"""Names of this file's tests that this process has run."""


@pytest.mark.parametrize("number", range(6))
def test_the_tests_of_a_file_run_in_one_process(number: int, request: pytest.FixtureRequest) -> None:
    names = [item.name for item in request.session.items if item.path == request.path]
    assert names[: names.index(request.node.name)] == _RUN, f"test {number} came alone"
    _RUN.append(request.node.name)
