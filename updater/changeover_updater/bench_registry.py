"""What a large catalogue costs a promotion: ``python -m changeover_updater.bench_registry [--runs N]``.

Two studios are made, signed as the product signs them, and the same commands are run on both in one process: one with
10 models of 10 releases, 10 choices and 100 verdicts, one with 100 models of 100 releases, 1,000 choices and 10,000
verdicts. Printed: the median and the 95th percentile of ``promote``, ``status`` and ``log`` on each, their ratios, and
what reads the long past or the whole catalogue: ``log --at``, ``log MODEL``, ``log --choice --verify``, ``search``,
``audit``, and a promotion that has nothing to stand on but that the channel held the release before. Left out: the
start of a process, which is the same for both and would make the ratios smaller, and MLflow, which is not reached.
"""

import argparse
import contextlib
import io
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeAlias

from changeover_registry import canonical, clock, signing
from changeover_registry.clock import format_time
from changeover_registry.records.choice import Choice
from changeover_registry.records.release import Release, ReleaseRef
from changeover_registry.records.station import Generation, GenerationChannel, GenerationRelease
from changeover_registry.repository import metadata, pending
from changeover_registry.repository.keys import StudioKeys
from changeover_registry.repository.metadata import Change
from changeover_registry.repository.reached import read_reached
from changeover_registry.signing import load_signer
from changeover_updater import choose, initialise, vendors
from changeover_updater._fleet_values import verdict_of
from changeover_updater.bench_refresh import large_vendor
from changeover_updater.search_index import NAME
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_updater.update import change_over

__all__ = ["Size", "Studio", "build", "main"]

_LEAST = 5
_EVENTS = 20
Refs: TypeAlias = dict[tuple[str, str], ReleaseRef]
"""Every release of a studio by its model's bare name and its version."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a studio is: models, releases of each, and choices of the site so far."""

    models: int
    releases: int
    choices: int

    def __str__(self) -> str:
        """In words."""
        return f"{self.models * self.releases} releases of {self.models} models, {self.choices} choices"


SMALL, LARGE = Size(10, 10, 10), Size(100, 100, 1000)


@dataclass(frozen=True, slots=True)
class Studio:
    """A studio that was made, and the command line on it."""

    root: Path
    size: Size
    began: datetime

    def run(self, *arguments: str) -> str:
        """Run one command that must succeed, in this process; returns what it prints."""
        from changeover_updater.cli.main import run

        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = run(["--config", str(self.root / "host.toml"), "--station", "bench", *arguments])
        if code != 0:
            message = f"changeover {' '.join(arguments)}: exit code {code}"
            raise RuntimeError(message)
        return out.getvalue()

    def promotions(self) -> Iterator[str]:
        """Releases that the next promotions to ``stable`` may name, each with an accept verdict of its own."""
        done = self.size.choices // self.size.models
        for number in range(done, self.size.releases):
            for model in range(min(self.size.models, SMALL.models)):
                yield f"{_name(model)}@1.{number}.0"


def build(root: Path, size: Size, now: datetime) -> Studio:
    """Make a studio of that size below `root`: vendor, site, store, station, verdicts, choices, a generation."""
    began = now - timedelta(days=20)
    keys = large_vendor(root / "vendor", models=size.models, releases=size.releases, files=3, now=now)
    initialise.initialise(
        initialise.Request(
            site=root / "site",
            store=root / "store",
            station="bench",
            keys=root / "keys",
            config=root / "host.toml",
            nuke_json=None,
            who="td",
            now=began,
        ),
        notice=lambda _: None,
    )
    site, station = Site(root / "site"), Station(Store(root / "store"), "bench")
    unreachable = 'schema = "changeover.site/1"\nmlflow = "sqlite:////proc/none/mlflow.db"\n'
    (site.root / "site.toml").write_text(unreachable, encoding="utf-8")
    location, pinned = str(root / "vendor" / "repository"), keys.anchor.read_bytes()
    vendors.add_trust(site, "acme", location, pinned, allow_executable=False, who="td", now=now)
    synced = vendors.sync_vendor(site.vendor("acme")).releases
    refs = {(_bare(release), release.version): release.ref() for release in synced}
    _write_verdicts(site, root, synced, refs, now)
    _write_choices(site, root, size, refs, began)
    _write_generations(site, station, size, refs, began)
    return Studio(root, size, began)


def main(arguments: Sequence[str]) -> int:
    """Make both studios, measure, print."""
    parser = argparse.ArgumentParser(prog="bench_registry")
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args(arguments).runs
    with tempfile.TemporaryDirectory() as folder:
        now = clock.now()
        studios = tuple(build(Path(folder) / str(n), size, now) for n, size in enumerate((SMALL, LARGE)))
        for studio in studios:
            sys.stdout.write(f"{studio.size}\n")
        for line in _compared(studios, runs):
            sys.stdout.write(f"{line}\n")
    return 0


def _compared(studios: Sequence[Studio], runs: int) -> Iterator[str]:
    """One line a command: both sizes beside each other, measured in turn so that both meet the same machine."""
    small, large = studios
    names = {studio: studio.promotions() for studio in studios}
    acts: dict[str, Callable[[Studio], object]] = {
        "promote": lambda s: s.run("promote", next(names[s]), "--reason", "bench"),
        "status": lambda s: s.run("status"),
        "log": lambda s: s.run("log"),
    }
    for name, act in acts.items():
        times: dict[Studio, list[float]] = {small: [], large: []}
        for number in range(runs + 1):
            for studio in studios:
                seconds = _seconds(partial(act, studio))
                # The first of each is the one that imports; it is left out of both.
                times[studio].extend([seconds] * bool(number))
        yield _line(name, times[small], times[large])
    yield from _on_the_large(large)


def _on_the_large(studio: Studio) -> Iterator[str]:
    early = format_time(studio.began + timedelta(minutes=1))
    firsts = (f"{_name(model)}@1.0.0" for model in range(studio.size.models - 1, 0, -1))
    acts = {
        "log --at the first minute": lambda: studio.run("log", "--at", early, "--channel", "stable"),
        "log --choice --verify": lambda: studio.run("log", "--choice", "--verify"),
        f"log {_name(0)}": lambda: studio.run("log", _name(0)),
        "promote what stable held first": lambda: studio.run("promote", next(firsts), "--reason", "bench"),
        "search without its index": lambda: _search_anew(studio),
        "search": lambda: studio.run("search", _name(0), "--fits", "vram<=8GiB", "--json"),
        "audit site": lambda: studio.run("audit", "site"),
    }
    times = min(_LEAST, studio.size.models - 1)
    for name, act in acts.items():
        yield f"{name:<32} {min(_seconds(act) for _ in range(times)):7.3f} s with {studio.size.choices} choices"


def _search_anew(studio: Studio) -> None:
    """The first search of a site, which reads every record and every verdict."""
    (studio.root / "site" / NAME).unlink(missing_ok=True)
    studio.run("search", _name(0), "--json")


def _line(name: str, small: list[float], large: list[float]) -> str:
    middle = [sorted(times)[len(times) // 2] for times in (small, large)]
    high = [sorted(times)[max(0, math.ceil(len(times) * 0.95) - 1)] for times in (small, large)]
    return (
        f"{name:<10} median {middle[0] * 1000:7.1f} and {middle[1] * 1000:7.1f} ms ({middle[1] / middle[0]:.2f}), "
        f"p95 {high[0] * 1000:7.1f} and {high[1] * 1000:7.1f} ms ({high[1] / high[0]:.2f})"
    )


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _bare(release: Release) -> str:
    return release.model.partition("/")[2]


def _name(model: int) -> str:
    return f"model-{model:03d}"


def _write_verdicts(site: Site, root: Path, releases: Sequence[Release], refs: Refs, now: datetime) -> None:
    """An accept verdict for every release, against the release before it."""
    signer = load_signer(root / "keys" / "online" / "verdict.pem")
    policy = canonical.digest(site.policy_bytes())
    for release in releases:
        number = int(release.version.split(".")[1])
        changes = {
            "current": refs[_bare(release), f"1.{number - 1}.0"] if number else None,
            "made_at": format_time(now - timedelta(hours=1)),
            "policy": policy,
        }
        verdict = verdict_of(release).verdict.model_copy(update=changes)
        envelope = signing.sign_envelope(verdict.to_bytes(), "verdict", signer)
        (site.verdicts / f"{canonical.digest(envelope)}.json").write_bytes(envelope)


def _write_choices(site: Site, root: Path, size: Size, refs: Refs, began: datetime) -> None:
    """The site's choices, one a minute: each promotes the next model's next release. One snapshot reaches the last."""
    keys = StudioKeys.in_folder(root / "keys")
    reached = read_reached(site.choice, keys.anchor.read_bytes())
    last = _first_choice(site)
    promoter, files = load_signer(keys.promoter), []
    data: dict[str, bytes] = {}
    for number in range(1, size.choices):
        ref = refs[_name((number - 1) % size.models), f"1.{(number - 1) // size.models}.0"]
        when = began + timedelta(minutes=number)
        last = choose.promote(last, "stable", ref, None, choose.Change("td", format_time(when), "bench"))
        target, file = pending.publishable(pending.propose(last, [promoter], when))
        data |= target
        files.append(file)
    metadata.write(site.choice, reached, Change(data, tuple(files)), load_signer(keys.site), began, exclusively=True)


def _first_choice(site: Site) -> Choice:
    (path,) = (site.choice / "targets" / "site").glob("*.choice-1.json")
    return Choice.from_bytes(path.read_bytes(), where=str(path))


def _write_generations(site: Site, station: Station, size: Size, refs: Refs, began: datetime) -> None:
    """What the station serves: the first release of every model, after some changeovers."""
    kept = [refs[_name(model), "1.0.0"] for model in range(size.models)]
    for number in range(1, _EVENTS // 2 + 1):
        made = Generation(
            number=number,
            station=station.id,
            made_at=format_time(began),
            why="bench",
            site=str(site.root),
            releases=tuple(
                GenerationRelease(key=str(ref), model=ref.model, version=ref.version, digest=ref.digest, answers=())
                for ref in kept
            ),
            channels=tuple(GenerationChannel(channel="stable", model=ref.model, key=str(ref)) for ref in kept),
        )
        with station.lock():
            change_over(station, made, began, "td")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
