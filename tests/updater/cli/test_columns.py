"""Tables in a terminal: a release, a path or a time is never broken, so that it can be copied."""

from itertools import pairwise

import pytest
from rich.console import Console

from changeover_updater.cli import _output
from changeover_updater.cli._columns import GAP, Column, breaks, widths

RELEASE = "acme/person-roto@4.1.0-b8957e00982c"


def test_columns_that_fit_are_whole() -> None:
    assert widths((Column(3, 8), Column(4, 9)), 8 + GAP + 9) == (8, 9)


def test_what_is_short_becomes_whole_first() -> None:
    assert widths((Column(6, 60), Column(4, 6), Column(5, 5)), 40) == (40 - 2 * GAP - 6 - 5, 6, 5)


def test_a_word_that_would_be_broken_is_said() -> None:
    assert widths((Column(20, 20), Column(20, 30)), 40 + GAP) == (20, 20)
    assert widths((Column(20, 20), Column(20, 30)), 40 + GAP - 1) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three", ["one two ", "three"]),
        ("a-word-longer-than-the-line and more", ["a-word-longer-than-the-line ", "and more"]),
        ("short", ["short"]),
        ("", [""]),
    ],
)
def test_a_text_is_broken_between_words_alone(text: str, expected: list[str]) -> None:
    at = [0, *breaks(text, 9), len(text)]
    assert [text[first:last] for first, last in pairwise(at)] == expected


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    def narrow(*, stderr: bool = False) -> Console:
        return Console(stderr=stderr, highlight=False, soft_wrap=True, width=80)

    monkeypatch.setattr(_output, "console", narrow)
    return capsys


def test_a_table_too_wide_says_each_row_in_lines(terminal: pytest.CaptureFixture[str]) -> None:
    line = (
        "shows/atlas",
        "",
        "2026-11-23T03:56:03Z",
        "root@vm",
        f"promote {RELEASE} to [b]show/atlas[/]",
        "finer hair",
    )
    _output.rows("choices", ("scope", "n", "when", "who", "what", "why"), [line])
    assert terminal.readouterr().out.splitlines() == [
        "choices",
        "scope  n  when  who  what  why",
        "shows/atlas  -  2026-11-23T03:56:03Z  root@vm",
        f"    promote {RELEASE} to show/atlas  finer hair",
    ]


def test_only_columns_of_words_give_way(terminal: pytest.CaptureFixture[str]) -> None:
    _output.rows("", ("release", "summary"), [(RELEASE, "Person mattes from colour and shape, with whole stripes.")])
    shown = terminal.readouterr().out.splitlines()
    assert shown[1].split()[0] == RELEASE
    assert len(shown) == 3
    assert max(map(len, shown)) <= 80


def test_a_table_without_a_title_says_its_emptiness_alone(terminal: pytest.CaptureFixture[str]) -> None:
    _output.rows("", ("release",), [], empty="no release answers")
    assert terminal.readouterr().out == "no release answers\n"
