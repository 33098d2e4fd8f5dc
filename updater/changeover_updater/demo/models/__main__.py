"""Makes the committed models anew: ``python -m changeover_updater.demo.models [VERSION ...]``.

Each is trained by its recipe and written beside a note of how it was made. A file that changes is meant to be committed
on purpose, after the demonstration has run with it.
"""

import hashlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from changeover_registry._fs import write_atomic
from changeover_updater.demo.models import FOLDER, ModelNote
from changeover_updater.demo.net import PLANS, parameters
from changeover_updater.demo.recipes import RELEASES, ReleaseSpec, make_model
from changeover_updater.demo.train import Lessons, draw_lessons

__all__ = ["main", "make"]


def main(versions: Sequence[str], folder: Path = FOLDER) -> int:
    """Make the models of `versions`, or all; the exit code is 2 where a version has no recipe."""
    console = Console()
    unknown = [name for name in versions if name not in RELEASES]
    if unknown:
        console.print(
            f"version: {unknown[0]}: expected one of {', '.join(RELEASES)}; name one of those", soft_wrap=True
        )
        return 2
    for name in versions or list(RELEASES):
        note = _make_with_bar(RELEASES[name], folder, console)
        console.print(f"{name}  {note.parameters} weights  {note.size} bytes  {note.sha256}", soft_wrap=True)
    return 0


def make(spec: ReleaseSpec, lessons: Lessons, model: bytes, folder: Path) -> ModelNote:
    """Write a model and its note into `folder`."""
    recipe = spec.recipe
    note = ModelNote(
        version=spec.version,
        plan=recipe.plan,
        seed=recipe.seed,
        steps=recipe.steps,
        pictures=recipe.pictures,
        kinds=recipe.kinds,
        batch=recipe.batch,
        crop=recipe.crop,
        learning_rate=str(recipe.learning_rate),
        storage=spec.storage,
        parameters=parameters(PLANS[recipe.plan]),
        data_digest=lessons.digest(),
        torch=version("torch").partition("+")[0],
        size=len(model),
        sha256=hashlib.sha256(model).hexdigest(),
    )
    write_atomic(folder / f"{spec.version}.onnx", model)
    write_atomic(folder / f"{spec.version}.json", note.to_bytes())
    return note


def _make_with_bar(spec: ReleaseSpec, folder: Path, console: Console) -> ModelNote:
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task(f"{spec.version}: {spec.recipe.pictures} pictures", total=spec.recipe.steps)
        lessons = draw_lessons(spec.recipe)
        bars.update(bar, description=f"{spec.version}: {spec.recipe.steps} steps")
        model = make_model(spec, lessons, lambda done: bars.update(bar, completed=done))
    return make(spec, lessons, model, folder)


if __name__ == "__main__":  # pragma: no cover - the tests call `main`
    sys.exit(main(sys.argv[1:]))
