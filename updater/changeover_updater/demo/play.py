"""Plays the story: prepares the world, runs every command as a person would type it, and says how each step ended."""

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import InvalidInputError
from changeover_updater.demo.artist import look_at_all
from changeover_updater.demo.recipes import LIVE, MODEL, RELEASES
from changeover_updater.demo.releases import CAT_MODEL, write_cat_release, write_release
from changeover_updater.demo.story import Stage, Step, story

__all__ = ["Ending", "play", "play_step", "stage_in"]

_LINES = 24
"""How many lines of a command are shown."""

Run = Callable[[Sequence[str]], int]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ending:
    """How one step ended: as it had to, or what was wrong; and how long it took in seconds."""

    title: str
    actor: str
    expected: str
    outcome: str
    good: bool
    seconds: float


@contextlib.contextmanager
def stage_in(keep: Path | None) -> Iterator[Stage]:
    """A stage in a folder that is kept, or in one that is removed at the end.

    Raises:
        InvalidInputError: The folder to keep is there and not empty.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="changeover-demo-", ignore_cleanup_errors=True) as passing:
            yield Stage(Path(passing))
        return
    folder = keep.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInputError(
            "folder",
            where=str(folder),
            expected="an empty or a new folder",
            actual="one with files in it",
            remedy="name another with --keep",
        )
    folder.mkdir(parents=True, exist_ok=True)
    yield Stage(folder)


def play(stage: Stage, run: Run, say: Say) -> tuple[Ending, ...]:
    """Play every step; a step that ends otherwise than it had to does not stop the others."""
    endings = [
        _prepare(f"train {LIVE} live", "vendor", lambda: _train(stage, say), say),
        _prepare("render 10 golden shots of 12 frames", "TD", lambda: _shots(stage), say),
    ]
    if all(ending.good for ending in endings):
        endings.extend(play_step(step, stage, run, say) for step in story(stage))
    return tuple(endings)


def _prepare(title: str, actor: str, work: Callable[[], None], say: Say) -> Ending:
    say(f"\n[bold cyan]{actor}[/]  {title}")
    started = time.monotonic()
    work()
    return Ending(title, actor, "done", "done", good=True, seconds=time.monotonic() - started)


def _train(stage: Stage, say: Say) -> None:
    from changeover_updater.demo.recipes import make_model

    steps = RELEASES[LIVE].recipe.steps

    def told(done: int) -> None:
        if done % (steps // 4) == 0:
            say(f"    [dim]{done} of {steps} steps[/]")

    for version in RELEASES:
        model = make_model(RELEASES[version], progress=told) if version == LIVE else None
        write_release(version, stage.release(version), model)
    write_cat_release(stage.root / "releases" / "edge-1.0.0")


def _shots(stage: Stage) -> None:
    from changeover_updater.demo.shots import write_shots

    write_shots(stage.shots())


def play_step(step: Step, stage: Stage, run: Run, say: Say) -> Ending:
    """Run one step and say how it ended."""
    say(f"\n[bold cyan]{step.actor}[/]  {step.title}")
    started = time.monotonic()
    wrong = _do(step, stage, run, say)
    seconds = time.monotonic() - started
    if step.looks:
        _show_answers(stage, say)
    expected = f"exit {step.exit_code}" + (f", {step.says[-1]!r}" if step.says else "")
    if not step.commands:
        expected = "holds"
    return Ending(step.title, step.actor, expected, wrong or "as expected", good=wrong is None, seconds=seconds)


def _do(step: Step, stage: Stage, run: Run, say: Say) -> str | None:
    """What is wrong with how a step ended, or None."""
    if step.before is not None:
        step.before(stage)
    wrong: str | None = None
    for number, command in enumerate(step.commands, start=1):
        say(f"  [bold]$ changeover {_typed(command)}[/]")
        code, printed = _captured(run, ("--config", str(stage.config), *command))
        last = number == len(step.commands)
        wrong = _judge(step, code, printed) if last else (None if code == 0 else f"exit {code} from {command[0]}")
        _echo(printed, say, whole=last or wrong is not None)
        if wrong:
            break
    after = step.after(stage) if step.after is not None else None
    return wrong or after


def _judge(step: Step, code: int, printed: str) -> str | None:
    if code != step.exit_code:
        return f"exit {code}, expected {step.exit_code}"
    flat = " ".join(printed.split())
    missing = [text for text in step.says if text not in flat]
    return f"nothing said of {missing[0]!r}" if missing else None


def _captured(run: Run, command: Sequence[str]) -> tuple[int, str]:
    """Run a command in this process and catch what it prints; the imports are paid once."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run(command)
    return code, out.getvalue()


def _echo(printed: str, say: Say, *, whole: bool) -> None:
    from rich.markup import escape

    lines = [line for line in printed.splitlines() if line.strip()]
    shown = lines if whole else lines[:1]
    for line in shown[:_LINES]:
        say(f"    [dim]{escape(line[:180])}[/]")
    if len(shown) > _LINES:
        say(f"    [dim]... {len(shown) - _LINES} more lines[/]")


def _show_answers(stage: Stage, say: Say) -> None:
    """What each loader gets now, as the plug-in in Nuke answers."""
    from rich.markup import escape

    questions = (
        (MODEL, "python", None),
        (MODEL, "python", LIVE),
        (MODEL, "nuke-inference", None),
        (CAT_MODEL, "nuke-inference", None),
    )
    say("  [bold]in Nuke 15.1[/]")
    for seen in look_at_all(stage.store, questions):
        node = f"a node stamped {seen.stamp}" if seen.stamp else "a new node"
        path = seen.path.replace(str(stage.store) + os.sep, "")
        what = f"{seen.asked} for {seen.loader}, {node}: {seen.release or '-'} (by {seen.source})"
        say(f"    {escape(what)} {escape(path or seen.unavailable)}")


def _typed(command: Sequence[str]) -> str:
    import shlex

    from rich.markup import escape

    return escape(shlex.join(command))
