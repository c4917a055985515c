"""The pages of the documentation as data: their blocks, their commands, their links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer.main

from padim_edge_runtime.cli import app

__all__ = ["DOCS", "README", "ROOT", "blocks", "calls", "links", "markdown", "options_of", "text_of", "wrong"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def markdown() -> list[Path]:
    """Every page that users read, sorted."""
    others = ("README.md", "CHANGELOG.md", "runtime/README.md", "runtime/cpp/README.md", "runtime/node/README.md")
    return sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in others)])


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks in a language, also those inside a list."""
    found = []
    for indent, name, body in _BLOCK.findall(text):
        if name == language:
            found.append(re.sub(rf"^{indent}", "", body, flags=re.MULTILINE))
    return found


def calls(text: str) -> list[list[str]]:
    """The words of each `padim-edge ...` in the shell blocks of a page, without what starts it (`uv run`, torchrun)."""
    found = []
    for block in blocks(text, "sh"):
        for line in block.splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")  # a comment begins with #
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if not set(word) <= set("&|;"):
                    words.append(word)
                    continue
                if words[:1] == ["torchrun"] and "padim_edge" in words:
                    words = ["padim-edge", *words[words.index("padim_edge") + 1 :]]
                if words[:2] == ["uv", "run"]:
                    words = words[2:]
                found += [words] if words[:1] == ["padim-edge"] else []
                words = []
    return found


def options_of() -> dict[str, set[str]]:
    """The options of each command; those of `padim-edge` itself stand under the empty name."""
    group = typer.main.get_command(app)
    found = {}
    for name, command in [("", group), *group.commands.items()]:  # type: ignore[attr-defined]
        found[name] = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        found[name] |= {"--help", "-h"}
    return found


def wrong(words: list[str]) -> str | None:
    """List the parts of `padim-edge COMMAND --option ...` that do not exist."""
    known = options_of()
    name = words[1] if len(words) > 1 else ""
    if name.startswith("-"):
        return None if name in known[""] else f"no option {name} of padim-edge"
    if name not in known:
        return f"no command {words[1:2]}"
    options = {word.partition("=")[0] for word in words[2:] if word.startswith("-")}
    missing = sorted(options - known[name])
    return f"no options {missing} of {name}" if missing else None


def links(page: Path) -> list[str]:
    """Relative targets of the links and images of a page, blocks and code left out."""
    text = _BLOCK.sub("", text_of(page))
    text = re.sub(r"`[^`\n]*`", "", text)
    return [target for target in _LINK.findall(text) if "://" not in target]
