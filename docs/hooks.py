"""MkDocs hook: links that leave `docs/` become plain words, since nothing is hosted that they could lead to.

In the repository such links work as they are. A page that consists of one link to a README shows that README.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_WHOLE_PAGE = re.compile(r"\A# [^\n]+\n+\[[^\]]+\]\(((?:\.\./)+[\w/]+/README\.md)\)\s*\Z")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Rewrite the links of one page; called by MkDocs."""
    docs = Path(config["docs_dir"])
    source = Path(page.file.abs_src_path)
    found = _WHOLE_PAGE.match(markdown)
    if found:
        source = (source.parent / found[1]).resolve()
        markdown = source.read_text(encoding="utf-8")

    def rewrite(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        if "://" in target or target.startswith("#"):
            return link[0]
        path, _, anchor = target.partition("#")
        aim = Path(os.path.normpath(source.parent / path))
        if aim.is_relative_to(docs):
            near = PurePosixPath(os.path.relpath(aim, Path(page.file.abs_src_path).parent))
            return f"[{text}]({near}{'#' + anchor if anchor else ''})"
        shown = _shown_by(aim, docs)
        if shown is not None:
            return f"[{text}]({PurePosixPath(os.path.relpath(shown, Path(page.file.abs_src_path).parent))})"
        name = aim.relative_to(docs.parent).as_posix()
        return f"`{name}`" if text.strip("`") in name else f"{text} (`{name}` in the repository)"

    return _LINK.sub(rewrite, markdown)


def _shown_by(readme: Path, docs: Path) -> Path | None:
    """The page that shows this README, if there is one."""
    for page in docs.rglob("*.md"):
        found = _WHOLE_PAGE.match(page.read_text(encoding="utf-8"))
        if found and (page.parent / found[1]).resolve() == readme:
            return page
    return None
