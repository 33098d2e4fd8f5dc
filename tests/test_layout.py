"""The skeleton's own rules: where things are, how long they may be, what a decision says, that links lead somewhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "registry": "changeover_registry",
    "validators": "changeover_validators",
    "updater": "changeover_updater",
}
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted(path for folder in (*PACKAGES, "plugins") for path in (ROOT / folder).rglob("*.py"))


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != "__pycache__"}


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_a_source_root_holds_its_package_alone(folder: str, package: str) -> None:
    assert visible(ROOT / folder) == {package}


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_a_package_says_that_it_is_typed(folder: str, package: str) -> None:
    assert (ROOT / folder / package / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES.values())
def test_every_folder_of_a_package_is_a_package(package: str) -> None:
    (root,) = ROOT.glob(f"*/{package}")
    folders = {path.parent for path in root.rglob("*.py")}

    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_stays_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")

    assert source.count("\n") <= 500
    assert ast.get_docstring(ast.parse(source))


def functions() -> Iterator[tuple[str, int]]:
    """Every function of the product with its length in lines, its docstring left out."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node, clean=False)
                length = (node.end_lineno or 0) - node.lineno - (docstring.count("\n") + 1 if docstring else 0)
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", length


def test_no_function_is_longer_than_a_page() -> None:
    assert [f"{name}: {length} lines" for name, length in functions() if length > 60] == []


def test_most_functions_are_short() -> None:
    lengths = sorted(length for _, length in functions())

    assert lengths[len(lengths) // 2] <= 9
    assert lengths[len(lengths) * 9 // 10] <= 30


def test_nothing_is_called_utils() -> None:
    assert [path for path in MODULES if path.stem.strip("_") in {"utils", "util", "helpers", "common", "misc"}] == []


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_record_has_status_context_options_and_outcome(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert re.match(rf"# {int(path.name[:4])}\. \S", text), "first line: '# N. Title'"
    for word in ("Status", "Context", "Options", "Outcome"):
        assert re.search(rf"^(## {word}|\*\*{word}|{word}:|- {word}:)", text, re.MULTILINE | re.IGNORECASE), word


def test_decision_records_have_a_number_each_and_stand_in_the_index() -> None:
    numbers = [path.name[:4] for path in DECISIONS]
    index = (ROOT / "docs" / "decisions" / "index.md").read_text(encoding="utf-8")

    assert len(set(numbers)) == len(numbers)
    assert [path.name for path in DECISIONS if f"({path.name})" not in index] == [], "run `make reference`"


def links() -> Iterator[tuple[Path, str]]:
    """Every relative link of every page."""
    for page in PAGES:
        prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if not re.match(r"[a-z]+:|#", target):
                yield page, target.partition("#")[0]


def test_every_link_leads_to_a_file() -> None:
    assert [f"{page.relative_to(ROOT)}: {to}" for page, to in links() if not (page.parent / to).exists()] == []


def test_the_quick_start_is_two_commands_and_nothing_before_them_but_a_clone() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, _, after = text.partition("## Quick start")
    block = re.search(r"```\w*\n(.*?)```", after, re.DOTALL)

    assert "```" not in before
    assert block is not None
    commands = [line.partition("#")[0].strip() for line in block[1].splitlines()]
    assert [line for line in commands if line and not line.startswith(("git clone", "cd "))] == [
        "make demo",
        "make test",
    ]


def test_the_first_screen_of_the_readme_says_who_what_and_what_not() -> None:
    screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:45])

    for words in ("Who it is for", "What it does", "What it is not", "make demo", "make test"):
        assert words in screen


def test_constraints_are_exact_public_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]

    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", pin)] == []
    assert "torch==2.13.0" in pins
