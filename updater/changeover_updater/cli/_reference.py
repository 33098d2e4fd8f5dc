"""The page *Command line* of the reference, written from the commands themselves, so that it cannot say anything else.

``python -m changeover_updater.cli._reference FILE`` writes it; a test holds ``docs/reference/cli.md`` to it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from changeover_updater.cli.main import app

__all__ = ["page"]

_HEAD = """\
# Command line

Generated from the commands by `make reference`. Every command has `--help`. Exit codes: [Exit codes](exit-codes.md).
Options of `changeover` itself stand before the command: `changeover --store /opt/changeover status`.
"""


def page() -> str:
    """The whole page as Markdown."""
    root: Any = typer.main.get_command(app)
    parts = [_HEAD, "## changeover\n", _table(root.params)]
    for name, command in sorted(_commands(root, ())):
        parts += [
            f"## {name}\n",
            f"{command.help}\n",
            f"```\n{_usage(name, command.params)}\n```\n",
            _table(command.params),
        ]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _commands(group: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer's own classes
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*names, name))
        else:
            yield " ".join((*names, name)), command


def _usage(name: str, params: list[Any]) -> str:
    words = [_argument(p) for p in params if p.param_type_name == "argument"]
    needed = [f"{p.opts[0]} {_value(p)}" for p in params if p.param_type_name == "option" and p.required]
    return " ".join(["changeover", name, *words, *needed, "[OPTIONS]"])


def _argument(param: Any) -> str:  # noqa: ANN401 - as above
    name = param.metavar or param.name.upper()
    return name if param.required else f"[{name}]"


def _value(param: Any) -> str:  # noqa: ANN401 - as above
    return "" if param.is_flag else param.metavar or param.name.removesuffix("_name").upper()


def _table(params: list[Any]) -> str:
    rows = [
        f"| `{_label(param)}` | {_help(param)} |" for param in params if param.help and "completion" not in param.name
    ]
    return "\n".join(["| option | what it says |", "| --- | --- |", *rows, ""]) if rows else ""


def _label(param: Any) -> str:  # noqa: ANN401 - as above
    if param.param_type_name == "argument":
        return _argument(param)
    return f"{', '.join(param.opts)} {_value(param)}".strip()


def _help(param: Any) -> str:  # noqa: ANN401 - as above
    text = param.help.replace("|", "\\|").replace("<", "&lt;")
    if isinstance(param.default, str | int) and not isinstance(param.default, bool) and param.default != "":
        return f"{text} Default: `{param.default}`."
    return f"{text} Required." if param.required else text


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8", newline="\n")
