"""What Nuke's plug-in answers, asked in a process of its own with the standard library alone."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from changeover_updater.plugin import plugin_folder
from changeover_updater.settings import short_host

__all__ = ["Seen", "look", "look_at_all"]

NUKE_LINE = "15.1"
"""The Nuke that the artist has."""

_ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import changeover_nuke_answers as answers, changeover_nuke_store as store
questions = json.loads(sys.argv[3])
opened = store.open_generation({"CHANGEOVER_STORE": sys.argv[2], "CHANGEOVER_STATION": sys.argv[4]})
found = []
for model, loader, line, version in questions:
    names = opened.frozen.named(model)
    held = [r for name in names for r in opened.frozen.releases(name) if version in (None, r.version)]
    stamp = held[0] if version and held else None
    asked = answers.Question(model, loader, line, answers.Scope(), stamp)
    got = answers.resolve(opened.frozen, asked, None)
    release = "" if got.release is None else got.release.model + "@" + got.release.version
    found.append([release, got.source, got.path or "", got.unavailable or ""])
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer of the plug-in: release as ``model@version``, where it came from, the file or why there is none."""

    asked: str
    loader: str
    stamp: str | None
    release: str
    source: str
    path: str
    unavailable: str

    @property
    def exists(self) -> bool:
        """Whether the file is really there."""
        return bool(self.path) and Path(self.path).is_file()

    def __str__(self) -> str:
        """One line."""
        return f"{self.release or 'nothing'} by {self.source}: {self.path or self.unavailable}"


def look(store: Path, model: str, loader: str, stamp: str | None = None) -> Seen:
    """Ask for one model with one loader."""
    return look_at_all(store, ((model, loader, stamp),))[0]


def look_at_all(
    store: Path, questions: tuple[tuple[str, str, str | None], ...], line: str = "15.1"
) -> tuple[Seen, ...]:
    """Ask several questions (model, loader, stamped version) of the generation in use."""
    asked = [[model, loader, line, stamp] for model, loader, stamp in questions]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _ASK, str(plugin_folder()), str(store), json.dumps(asked), short_host()],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return tuple(Seen(m, x, s, "", "none", "", last) for m, x, s in questions)
    return tuple(
        Seen(model, loader, stamp, *answer)
        for (model, loader, stamp), answer in zip(questions, json.loads(done.stdout), strict=True)
    )
