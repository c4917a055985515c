"""Requests of every kind that the description allows or forbids get an answer that it knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from line.served import TOKEN, config_of, served


@pytest.mark.slow
def test_no_request_for_inference_breaks_the_service(tmp_path: Path) -> None:
    """Whether a tensor fits a model is beyond a schema, so a request that fits the schema may be refused."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    with served(config_of(tmp_path / "line", ["bottle"], most_mb=1)) as there:
        command = [
            *(Path(sys.executable).with_name("schemathesis"), "run", f"{there.url}openapi.json"),
            *("--header", f"Authorization: Bearer {TOKEN}", "--include-path-regex", "^/v2"),
            *("--checks", "all", "--exclude-checks", "ignored_auth,positive_data_acceptance"),
            *("--max-examples", "40", "--workers", "1", "--no-color", "--seed", "1"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert httpx.get(f"{there.url}v2/health/ready", trust_env=False).status_code == 200
