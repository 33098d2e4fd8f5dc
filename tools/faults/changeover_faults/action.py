"""The commands that are swept, each with the studio it starts from and what must stand on the disk around it."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from changeover_faults.commands import faketime, run
from changeover_faults.oracle import served
from changeover_faults.studio import MODELS, NEW, OLD, PARTS, SPARE, Studio, install, permit, promote, renew

__all__ = ["ACTIONS", "Action"]

_LATER = 40
"""Days after which what is not in use has outlived the policy's retention."""


def _all_done(studio: Studio) -> Iterator[str]:
    """Nothing more than what a reader is served must be there."""
    del studio
    return iter(())


@dataclass(frozen=True, slots=True)
class Action:
    """One command: how the studio is made ready for it, and the versions a reader may see before and after it.

    It runs `days` after that. `undone` tells what the command, run to its end, has not done beside that.
    """

    name: str
    words: tuple[str, ...]
    ready: Callable[[Studio], None]
    old: str | None
    new: str | None
    days: int = 0
    undone: Callable[[Studio], Iterator[str]] = _all_done

    def arguments(self, studio: Studio) -> list[str]:
        """The command line on a studio."""
        return studio.arguments(*(str(studio.bundle) if word == "BUNDLE" else word for word in self.words))


def _chosen(studio: Studio) -> None:
    """The studio as it was built: `OLD` chosen, nothing in use."""
    del studio


def _serving(studio: Studio) -> None:
    """`OLD` in use, `NEW` chosen."""
    studio.change_over()
    promote(studio, NEW)


def _updated(studio: Studio) -> None:
    """`NEW` in use, `OLD` before it."""
    _serving(studio)
    studio.change_over()


def _long_in_use(studio: Studio) -> None:
    """`NEW` in use for weeks, generations before it, and a release that was installed and never used."""
    _updated(studio)
    install(studio, SPARE)
    for show in ("atlas", "borea"):
        studio.ok("pin", f"{MODELS[0]}@{NEW}", "--show", show, "--reason", "another generation")
        studio.change_over()
    renew(studio, _LATER)
    # The studio went on working, so that what it signed has not expired.
    for words in (("sync",), ("pin", f"{MODELS[1]}@{NEW}", "--show", "atlas", "--reason", "later"), ("update",)):
        ended = run(studio, *words, days=_LATER)
        if ended.code:
            message = f"{words} {_LATER} days later: exit {ended.code}: {ended.err}"
            raise AssertionError(message)


def _not_collected(studio: Studio) -> Iterator[str]:
    if 1 in studio.station().numbers():
        yield "generation 1 was not collected"
    for folder in (studio.store / "releases").glob(f"*/*/{SPARE}-*"):
        yield f"{folder.name} was not collected"


def _behind_a_gap(studio: Studio) -> None:
    """`OLD` in use, and nothing known of `NEW`, of which a bundle lies at hand."""
    for name in PARTS:
        shutil.rmtree(studio.root / name)
        shutil.copytree(studio.early / name, studio.root / name)
    studio.change_over()


def _not_imported(studio: Studio) -> Iterator[str]:
    """What was brought in must serve without the vendor's repository."""
    away = studio.repository.with_name("away")
    studio.repository.rename(away)
    try:
        permit(studio, NEW)
        promote(studio, NEW)
        studio.change_over()
        if (version := served(studio.store)) != NEW:
            yield f"after the import a reader sees {version}"
    except AssertionError as error:
        yield f"what was imported does not serve: {error}"
    finally:
        away.rename(studio.repository)


def _all(*actions: Action) -> Mapping[str, Action]:
    return {action.name: action for action in actions if not action.days or faketime()}


ACTIONS = _all(
    Action("first", ("update",), _chosen, None, OLD),
    Action("update", ("update",), _serving, OLD, NEW),
    Action("rollback", ("rollback", "--to", "1", "--reason", "test"), _updated, NEW, OLD),
    Action("import", ("import", "BUNDLE", "--reason", "test"), _behind_a_gap, OLD, OLD, undone=_not_imported),
    Action("gc", ("gc",), _long_in_use, NEW, NEW, _LATER, _not_collected),
)
