"""What the pages tell people to type must exist: commands, options, make targets, exit codes, files, words."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from changeover_registry.errors import ChangeoverError
from changeover_updater.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.parent.name != "decisions"]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every line of a shell block that runs the command, with its place, as words."""
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for call in re.findall(r"(?:^|\$\(|/)changeover ([a-z-][^;>|)]*)", line):
                    yield f"{page.relative_to(ROOT)}: {line.strip()}", shlex.split(call, comments=True)


LINES = list(command_lines())


def test_the_pages_show_commands() -> None:
    assert len(LINES) > 30


@pytest.mark.parametrize(("place", "words"), LINES, ids=[place for place, _ in LINES])
def test_a_command_in_the_pages_is_one_that_exists(place: str, words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    options = {option for param in command.params for option in param.opts}
    while words and words[0] in options:
        words = words[2:]
    while hasattr(command, "commands"):
        assert words[:1], place
        assert words[0] in command.commands, place
        command, words = command.commands[words[0]], words[1:]
    check_words(command, words, place)


def check_words(command: Any, words: list[str], place: str) -> None:
    """Every option is the command's own, there are as many arguments as it takes, and none that it needs is missing."""
    options = {option: param for param in command.params if param.param_type_name == "option" for option in param.opts}
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    given, left = set(), list(words)
    positional = 0
    while left:
        word = left.pop(0)
        if word.startswith("-"):
            assert word in options, f"{place}: {word}"
            given.add(options[word].name)
            if not options[word].is_flag:
                assert left.pop(0)
        else:
            positional += 1
    most = positional if any(param.nargs == -1 for param in arguments) else len(arguments)
    assert sum(param.required for param in arguments) <= positional <= most, place
    assert {param.name for param in options.values() if param.required} <= given, place


def test_every_make_target_in_the_pages_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)

    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= targets


def test_every_exit_code_of_the_code_stands_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    classes: list[type[ChangeoverError]] = [ChangeoverError, *ChangeoverError.__subclasses__()]

    for error in classes:
        assert re.search(rf"^\| {error.exit_code} \|.*`{error.__name__}`", page, re.MULTILINE), error.__name__


def test_every_key_of_the_policy_stands_in_the_reference() -> None:
    from changeover_registry.records.base import Value
    from changeover_registry.records.policy import Policy

    page = (ROOT / "docs" / "reference" / "policy.md").read_text(encoding="utf-8")
    missing = []
    for name, field in Policy.model_fields.items():
        part = field.annotation
        names = list(part.model_fields) if isinstance(part, type) and issubclass(part, Value) else [name]
        missing += [f"{name}.{inner}" for inner in names if not re.search(rf"\b{inner}\b", page)]

    assert missing == ["ext.ext"]


def test_every_variable_of_the_environment_stands_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "host-toml.md").read_text(encoding="utf-8")
    sources = [
        path for folder in ("registry", "validators", "updater", "plugins") for path in (ROOT / folder).rglob("*.py")
    ]
    read = {
        name for path in sources for name in re.findall(r'"(CHANGEOVER_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    }

    assert read == set(re.findall(r"^\| `(CHANGEOVER_[A-Z_]+)`", page, re.MULTILINE))


def test_every_entry_of_the_menu_in_nuke_stands_in_the_how_to() -> None:
    page = (ROOT / "docs" / "how-to" / "work-in-nuke.md").read_text(encoding="utf-8")
    menu = (ROOT / "plugins" / "nuke" / "menu.py").read_text(encoding="utf-8")
    entries = re.findall(r'add(?:Command|Menu)\("([^"]+)"', menu)

    assert len(entries) > 5
    assert [entry for entry in entries if entry not in page] == []
