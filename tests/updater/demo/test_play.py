from collections.abc import Sequence
from pathlib import Path

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli.main import run
from changeover_updater.demo.artist import look
from changeover_updater.demo.play import play, play_step, stage_in
from changeover_updater.demo.story import Stage, Step, story


def silent(text: str) -> None:
    del text


def answering(code: int, text: str = "") -> object:
    def command(arguments: Sequence[str]) -> int:
        del arguments
        if text:
            print(text)  # noqa: T201 - it plays a command
        return code

    return command


def test_whole_story_ends_as_it_has_to(tmp_path: Path) -> None:
    said: list[str] = []

    endings = play(Stage(tmp_path), run, said.append)

    assert [(ending.title, ending.outcome) for ending in endings if not ending.good] == []
    assert len(endings) == len(story(Stage(tmp_path))) + 2
    answers = "\n".join(said)
    assert "a node stamped 1.0.0: acme/person-roto@1.0.0 (by stamp)" in answers
    assert "EdgeRoto.cat" in answers


@pytest.mark.parametrize(
    ("step", "code", "text", "outcome"),
    [
        (Step("x", "TD", (("status",),)), 3, "", "exit 3, expected 0"),
        (Step("x", "TD", (("status",),), exit_code=3), 0, "", "exit 0, expected 3"),
        (Step("x", "TD", (("status",),), says=("accept",)), 0, "reject", "nothing said of 'accept'"),
        (Step("x", "TD", (("sync",), ("status",))), 6, "", "exit 6 from sync"),
        (Step("x", "TD", (("status",),), after=lambda _: "the wrong file"), 0, "", "the wrong file"),
    ],
)
def test_step_that_ends_otherwise_is_not_good_and_says_why(
    tmp_path: Path, step: Step, code: int, text: str, outcome: str
) -> None:
    ending = play_step(step, Stage(tmp_path), answering(code, text), silent)  # type: ignore[arg-type]

    assert not ending.good
    assert ending.outcome == outcome


def test_step_that_says_more_than_a_screen_is_cut_for_the_reader(tmp_path: Path) -> None:
    said: list[str] = []

    ending = play_step(
        Step("x", "TD", (("status",),)),
        Stage(tmp_path),
        answering(0, "\n".join("abcdefghijklmnopqrstuvwxyz012345")),  # type: ignore[arg-type]
        said.append,
    )

    assert ending.good
    assert "8 more lines" in said[-1]


def test_folder_with_files_in_it_is_not_taken_for_keeping(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x", encoding="utf-8")

    with pytest.raises(InvalidInputError, match="an empty or a new folder"), stage_in(tmp_path):
        pass

    assert run(["demo", "--keep", str(tmp_path)]) == 2


def test_folder_that_is_not_kept_is_gone_afterwards() -> None:
    with stage_in(None) as stage:
        assert stage.root.is_dir()

    assert not stage.root.exists()


def test_artist_without_a_station_is_told_in_one_sentence(tmp_path: Path) -> None:
    seen = look(tmp_path, "acme/person-roto", "python")

    assert not seen.exists
    assert "run there: changeover update" in str(seen)
