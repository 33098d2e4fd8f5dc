import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

from changeover_registry import _fs
from changeover_registry.errors import InvalidInputError, LostRaceError, RefusedError, TrustError
from changeover_registry.locks import lock
from changeover_updater import collect as collecting
from changeover_updater import gc_facts, trash
from changeover_updater.cli.store import size_text
from changeover_updater.collect import Collected, Request
from changeover_updater.events import replay
from changeover_updater.install import install_variants
from changeover_updater.station import Station
from changeover_updater.store import SHARE, Store
from changeover_updater.studio import read_studio

READER = """\
import mmap, sys, time
file = open(sys.argv[1], 'rb')
if sys.argv[2] == 'mapped':
    kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    file.close()
print('open', flush=True)
sys.stdin.readline()
"""


def at(world: Any, days: float) -> datetime:
    moment: datetime = world.now + timedelta(days=days)
    return moment


def gc(world: Any, days: float, *, purge: tuple[str, ...] = ()) -> Collected:
    request = Request(who="td@vm1", why="space", now=at(world, days), purge=purge)
    return collecting.collect(world.site, world.station, request, lambda _: None)


def plan(world: Any, days: float) -> Any:
    request = Request(who="td@vm1", why="space", now=at(world, days))
    return collecting.preview(world.site, world.station, request, lambda _: None)


def installed(world: Any) -> list[str]:
    return sorted(gc_facts.key_of(path) for path in (world.root / "store" / "releases").glob("*/*/*"))


def versions(world: Any) -> list[str]:
    return [key.partition("@")[2].partition("-")[0] for key in installed(world)]


def model_of(world: Any, version: str) -> Path:
    root: Path = world.root
    (path,) = (root / "store" / "releases").glob(f"*/*/{version}-*/onnx-fp32/model.onnx")
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def spare(world: Any) -> Any:
    """1.1.0 is in use; 1.0.0 was installed by an update that then went no further, and nothing needs it."""
    return with_spare(world)


@pytest.fixture(scope="module")
def lasting(module_world: Any) -> Any:
    """As `spare`, for tests after which everything is as before."""
    return with_spare(module_world)


def with_spare(world: Any) -> Any:
    release = world.publish("1.0.0")
    install_variants(world.station.store, world.site.vendor("acme"), release, release.variants, lambda *_: None)
    world.served("1.1.0")
    return world


@contextlib.contextmanager
def reading(path: Path, how: str) -> Iterator[None]:
    """A process that has the file open, or only mapped."""
    command = [sys.executable, "-c", READER, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield
        process.communicate("go\n")


def policy(world: Any, **changes: int) -> None:
    path = world.site.root / "policy.toml"
    lines = "".join(f"{name} = {value}\n" for name, value in changes.items())
    path.write_text(f"{path.read_text(encoding='utf-8')}\n[retention]\n{lines}", encoding="utf-8")
    world.ok("promote", "--policy", "--reason", "retention")


def why(world: Any, days: float, version: str) -> str:
    (key,) = [key for key in installed(world) if f"@{version}-" in key]
    return "; ".join(plan(world, days).why(key))


def test_what_was_used_lately_stays_and_is_told(spare: Any) -> None:
    before = tree(spare.root / "store")

    found = plan(spare, 10)

    assert found.empty
    assert "made or used within 30 days" in found.why("generation 1 of vm1")
    assert "read within 30 days" in why(spare, 10, "1.0.0")
    assert gc(spare, 10).freed == 0
    assert tree(spare.root / "store").keys() - before.keys() == {"gc.lock"}


def test_what_nothing_needs_goes_and_what_is_in_use_stays_whole(spare: Any) -> None:
    size = sum(path.stat().st_size for path in model_of(spare, "1.0.0").parent.iterdir())
    kept = tree(model_of(spare, "1.1.0").parent)

    dry = plan(spare, 40)
    done = gc(spare, 40)

    assert [fact.size for fact in dry.releases] == [size]
    assert (done.plan, done.freed, done.waiting) == (dry, size, 0)
    assert versions(spare) == ["1.1.0"]
    assert tree(model_of(spare, "1.1.0").parent) == kept
    assert gc(spare, 40).plan.empty
    events = spare.station.events()
    assert [(e.what, e.phase) for e in events][-2:] == [("gc", "intent"), ("gc", "done")]
    assert "1.0.0" in events[-2].detail
    assert replay(events).generation == spare.station.current() == 1


def test_a_dry_run_changes_nothing(lasting: Any) -> None:
    before = tree(lasting.root / "store")

    assert plan(lasting, 40).size > 0

    assert tree(lasting.root / "store") == before


def test_generations_go_after_their_time_and_with_them_what_they_held(world: Any) -> None:
    first = world.served("1.0.0")
    policy(world, generations=2)
    second = world.served("1.1.0", first)
    world.served("1.2.0", second)
    for version in ("1.1.0", "1.2.0"):
        if version == "1.2.0":
            done = gc(world, 40)
            assert [[fact.number for fact in part.goes] for part in done.plan.stations] == [[1, 2]]
            now_used = world.station.in_use()
            # A generation was built that does without 1.0.0; the way back leads past its twin to what was before.
            assert (now_used.number, now_used.previous) == (5, 3)
            assert [release.version for release in now_used.releases] == ["1.1.0", "1.2.0"]
            assert world.station.numbers() == (3, 4, 5)
            assert versions(world) == ["1.0.0", "1.1.0", "1.2.0"]
        world.ok("promote", f"tiny-roto@{version}", "--reason", "held before")
        world.ok("update")

    done = gc(world, 80)

    assert world.station.numbers() == (5, 6)
    assert versions(world) == ["1.1.0", "1.2.0"]
    assert replay(world.station.events()).generation == world.station.current() == 6
    world.ok("log", "--verify")
    world.ok("rollback")
    assert world.station.current() == 5
    assert [c.key for c in world.station.in_use().channels] == [str(second.ref())]


def test_nothing_is_dropped_under_a_hold(world: Any) -> None:
    first = world.served("1.0.0")
    policy(world, generations=2)
    second = world.served("1.1.0", first)
    world.served("1.2.0", second)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "back")
    world.ok("update")
    assert [len(part.drop) for part in plan(world, 40).stations] == [1]

    world.ok("hold", "--reason", "final renders")

    assert [len(part.drop) for part in plan(world, 40).stations] == [0]
    gc(world, 40)
    assert world.station.current() == 4


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_file_that_a_process_uses_keeps_its_release(spare: Any, how: str) -> None:
    with reading(model_of(spare, "1.0.0"), how):
        assert why(spare, 40, "1.0.0") == "a process has it open"
        assert gc(spare, 40).plan.empty
        assert versions(spare) == ["1.0.0", "1.1.0"]

    assert [fact.key.split("@")[1][:5] for fact in gc(spare, 40).plan.releases] == ["1.0.0"]


def test_what_is_opened_at_the_last_moment_is_put_back(spare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that comes between the look and the rename has the release back under its name."""
    take_out, model = trash.take_out, model_of(spare, "1.0.0")
    before = tree(model.parent)
    opened = []

    def open_first(*arguments: Any) -> Path:
        opened.append(model.open("rb"))
        return take_out(*arguments)

    monkeypatch.setattr(trash, "take_out", open_first)
    done = gc(spare, 40)

    assert done.plan.releases == ()
    assert tree(model.parent) == before
    opened[0].close()


def test_a_session_keeps_its_generation_and_its_releases(world: Any) -> None:
    first = world.served("1.0.0")
    policy(world, generations=2)
    second = world.served("1.1.0", first)
    world.served("1.2.0", second)
    lease = world.station.folder / "leases" / "ws-014-4711.json"
    lease.write_text(
        '{"schema": "changeover.lease/1", "host": "ws-014", "pid": 4711, "started_at": "2026-11-22T18:00:00Z",'
        ' "generation": 1}',
        encoding="utf-8",
    )
    touch(lease, at(world, 39))

    assert "a session (process 4711 on ws-014) keeps it" in plan(world, 40).why("generation 1 of vm1")
    gc(world, 40)
    assert 1 in world.station.numbers()

    gc(world, 39 + 15)
    assert 1 not in world.station.numbers()
    assert not lease.exists()


def touch(path: Path, moment: datetime) -> None:
    os.utime(path, (moment.timestamp(), moment.timestamp()))


def test_what_a_choice_names_stays(spare: Any) -> None:
    releases = read_studio(spare.site, spare.station).releases()
    release = next(one for one in releases if one.version == "1.0.0")
    spare.accept(release, next(one for one in releases if one.version == "1.1.0"))
    spare.ok("promote", "tiny-roto@1.0.0", "--channel", "beta", "--reason", "try")

    assert why(spare, 40, "1.0.0") == "channel beta"
    assert gc(spare, 40).plan.empty


def test_the_last_copy_stays_until_somebody_gives_it_up(spare: Any) -> None:
    shutil.rmtree(spare.repository / "objects")
    (key,) = [key for key in installed(spare) if "@1.0.0-" in key]

    told = why(spare, 40, "1.0.0")
    assert told.startswith("no other copy could be shown: ")
    assert told.endswith("; --purge with --reason gives it up")
    assert gc(spare, 40).plan.empty

    done = gc(spare, 40, purge=("tiny-roto@1.0.0",))
    assert [fact.key for fact in done.plan.releases] == [key]
    assert versions(spare) == ["1.1.0"]


def test_a_copy_of_another_length_at_the_vendor_s_is_none(spare: Any) -> None:
    for path in (spare.repository / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(path.read_bytes() + b"x")

    assert "with another length" in why(spare, 40, "1.0.0")


def test_hashing_is_no_use_and_reading_is(spare: Any) -> None:
    """What only `doctor` looks at is needed by nobody; what a script reads is."""
    model = model_of(spare, "1.0.0")
    old = at(spare, -100)
    for path in model.parent.iterdir():
        touch(path, old)
    release = next(one for one in read_studio(spare.site, spare.station).releases() if one.version == "1.0.0")

    spare.station.store.verify(release.ref(), release.variants[0])
    assert "read within" not in why(spare, 2, "1.0.0")

    model.read_bytes()
    if model.stat().st_atime < old.timestamp() + 1:
        pytest.skip("this file system keeps no access times")
    assert why(spare, 2, "1.0.0") == "read within 30 days"


def test_a_purge_gives_up_nothing_but_the_last_copy(lasting: Any) -> None:
    before = tree(lasting.root / "store" / "releases")

    with pytest.raises(RefusedError, match="generation 1 of vm1 holds it") as caught:
        gc(lasting, 40, purge=("acme/tiny-roto@1.1.0",))
    assert caught.value.exit_code == 3
    with pytest.raises(InvalidInputError, match="no such release"):
        gc(lasting, 40, purge=("tiny-roto@9.9.9",))

    assert tree(lasting.root / "store" / "releases") == before
    assert lasting.station.current() == 1


def test_another_station_of_the_store_keeps_what_it_holds(spare: Any) -> None:
    """Two host classes on one share: what one of them still has stays for it, and each keeps its own record."""
    two = Station(spare.station.store, "linux-a6000")
    places = ("--site", str(spare.site.root), "--store", str(two.store.root))
    # Without the last two, who runs this as root would tell every Nuke of this machine of the test's store.
    spare.ok("--station", two.id, "init", *places, "--mode", "share", "--nuke-json", "none")
    mine = spare.station.in_use()
    release = next(one for one in read_studio(spare.site, two).releases() if one.version == "1.0.0")
    held = mine.releases[0].model_copy(
        update={"key": str(release.ref()), "version": "1.0.0", "digest": release.digest(), "answers": ()}
    )
    theirs = mine.model_copy(update={"station": two.id, "releases": (held,), "channels": (), "pins": ()})
    two.add_generation(theirs, lambda _: None)
    two.point(1)

    assert why(spare, 100, "1.0.0") == "generation 1 of linux-a6000 holds it"
    assert gc(spare, 100).plan.releases == ()
    # No channel of that class answers it any more: its next generation does without, and then it goes.
    assert two.current() == 2
    assert spare.station.current() == 1
    assert [event.what for event in two.events()] == ["gc", "gc"]
    gc(spare, 200)
    assert versions(spare) == ["1.1.0"]


def test_what_was_just_put_in_place_is_left_to_its_update(spare: Any) -> None:
    for path in model_of(spare, "1.0.0").parent.iterdir():
        os.utime(path, (0, 0))

    assert why(spare, 0.5, "1.0.0") == "put in place within a day"


def test_an_expired_choice_collects_nothing(make_world: Any, long_ago: datetime) -> None:
    world = make_world()
    world.served("1.0.0")
    timestamp = world.site.choice / "metadata" / "timestamp.json"
    timestamp.write_bytes(timestamp.read_bytes().replace(b"2026", b"2020").replace(b"2027", b"2021"))
    before = tree(world.root / "store" / "releases")

    with pytest.raises(TrustError):
        gc(world, 100)

    assert tree(world.root / "store" / "releases") == before


def test_events_that_cannot_be_read_keep_every_generation(spare: Any) -> None:
    (spare.station.folder / "events" / "00000001.json").write_bytes(b"{}")

    found = plan(spare, 40)

    assert any("cannot be told" in reason for reason in found.why("generation 1 of vm1"))
    assert gc(spare, 40).plan.stations[0].goes == ()


def test_a_generation_that_cannot_be_read_keeps_every_release(spare: Any) -> None:
    path = spare.station.folder / "generations" / "1" / "generation.json"
    path.chmod(0o644)
    path.write_bytes(b"{")

    assert "generation 1 of vm1 cannot be read and may hold it" in why(spare, 40, "1.0.0")


def test_one_collects_and_another_waits_or_loses(lasting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "_LOCK_SECONDS", 0.1)
    with lock(lasting.root / "store" / "gc.lock", what="the store"), pytest.raises(LostRaceError, match="since"):
        gc(lasting, 40)
    with lasting.station.lock(), pytest.raises(LostRaceError, match="station vm1"):
        gc(lasting, 40)

    assert versions(lasting) == ["1.0.0", "1.1.0"]


def test_on_a_share_what_went_is_deleted_an_hour_later(spare: Any) -> None:
    (spare.root / "store" / "mode").write_bytes(SHARE)

    first = gc(spare, 100)
    assert (first.freed, first.waiting) == (0, 1)
    assert versions(spare) == ["1.1.0"]
    assert "read within 90 days" in plan(spare, 60).why(installed(spare)[0])

    later = gc(spare, 100.1)
    assert later.freed > 0
    assert later.waiting == 0


@pytest.mark.skipif(shutil.which("bindfs") is None, reason="bindfs shows what a network file system does")
def test_what_another_host_has_open_is_deleted_by_a_later_run(spare: Any, tmp_path: Path) -> None:
    """A FUSE mount renames a file that is open and is removed, so that its folder cannot be removed."""
    mount = tmp_path / "mounted"
    mount.mkdir()
    if subprocess.run(["bindfs", str(spare.root / "store"), str(mount)], check=False).returncode != 0:
        pytest.skip("this user may not mount")
    store = Store(mount)
    try:
        model = next(mount.glob("releases/*/*/1.0.0-*/onnx-fp32/model.onnx"))
        with model.open("rb") as reader:
            trash.take_out(store, model.parent.parent, at(spare, 0))
            freed, waiting = trash.empty(store, at(spare, 0))
            assert waiting == 1
            assert len(reader.read()) > 0
        assert trash.empty(store, at(spare, 0))[1] == 0
    finally:
        subprocess.run(["fusermount", "-u", str(mount)], check=True)
    del freed


def test_what_dead_processes_left_is_swept(spare: Any) -> None:
    store, host = spare.root / "store", socket.gethostname()
    names = ("elsewhere~1~abc", f"{host}~4194305~abc", f"{host}~{os.getpid()}~abc")
    for name in names:
        (store / "staging" / name).mkdir()
    (spare.site.root / "trust" / ".new-acme").mkdir()
    (spare.site.root / "trust" / ".removed-old" / "mirror").mkdir(parents=True)

    gc(spare, 0)

    assert sorted(path.name for path in (store / "staging").iterdir()) == sorted((names[0], names[2]))
    assert not list(spare.site.root.glob("trust/.[nr]*"))
    gc(spare, 20)
    assert [path.name for path in (store / "staging").iterdir() if "~" in path.name] == [names[2]]


def test_what_is_swept_is_out_of_reach_before_anything_in_it_goes(spare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live update of a container with this host's name looks dead: it must not put in place what is being deleted."""
    store, remove = spare.station.store, _fs.remove_tree
    staged, place = store.root / "staging" / f"{socket.gethostname()}~4194305~abc", spare.root / "place"
    staged.mkdir()

    def put_in_place_first(folder: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):
            staged.rename(place)
        return remove(folder)

    monkeypatch.setattr(_fs, "remove_tree", put_in_place_first)
    assert store.sweep_staging() == 1
    assert not place.exists()
    assert not any("~" in path.name for path in (store.root / "staging").iterdir())


def test_what_was_collected_under_an_update_is_brought_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that an update found are gone when it gets the lock: it begins again and never points at nothing."""
    release = world.publish("1.0.0")
    world.accept(release)
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    folder = world.station.store.variant_folder(release.ref(), "onnx-fp32").parent
    lock_of = Station.lock
    taken: list[Path] = []

    def take_it_away_once(station: Station) -> Any:
        if not taken:
            taken.append(trash.take_out(station.store, folder, at(world, 0)))
        return lock_of(station)

    monkeypatch.setattr(Station, "lock", take_it_away_once)
    world.ok("update")

    assert taken
    assert model_of(world, "1.0.0").is_file()
    assert world.station.current() == 1


def test_a_loaded_model_gives_the_same_while_all_around_it_is_updated_and_collected(world: Any) -> None:
    """A session maps the model; an update and a collection go over it; its answer and its generation stay."""
    first = world.served("1.0.0")
    policy(world, generations=2)
    code = (
        "import numpy, onnxruntime, sys\n"
        "session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        "kept = open(sys.argv[1], 'rb')\n"
        "image = numpy.linspace(0, 1, 3 * 64, dtype='float32').reshape(1, 3, 8, 8)\n"
        "for _ in sys.stdin:\n"
        "    print(session.run(None, {'image': image})[0].sum().item().hex(), len(kept.read()), flush=True)\n"
        "    kept.seek(0)\n"
    )
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(model_of(world, "1.0.0"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as session:

        def ask() -> str:
            assert session.stdin is not None
            assert session.stdout is not None
            session.stdin.write("go\n")
            session.stdin.flush()
            return session.stdout.readline()

        before = ask()
        second = world.served("1.1.0", first)
        world.served("1.2.0", second)
        for version, days in (("1.1.0", 40), ("1.2.0", 80)):
            gc(world, days)
            world.ok("promote", f"tiny-roto@{version}", "--reason", "held before")
            world.ok("update")
        gc(world, 120)
        assert "a process has it open" in why(world, 160, "1.0.0")
        assert versions(world) == ["1.0.0", "1.1.0", "1.2.0"]
        assert ask() == before
        assert len(before) > 10
        session.communicate("")

    gc(world, 160)
    assert versions(world) == ["1.1.0", "1.2.0"]


def test_what_is_installed_is_real_files_that_both_loaders_take(world: Any) -> None:
    world.served("1.0.0")
    (answer, *_) = [a for a in world.station.in_use().releases[0].answers if a.path]
    path = world.root / "store" / answer.path

    onnx.checker.check_model(str(path), full_check=True)
    onnx.load(str(path), load_external_data=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    assert [port.name for port in session.get_inputs()] == ["image"]
    entries = list((world.root / "store").rglob("*"))
    assert not [entry for entry in entries if entry.is_symlink()]
    assert {entry.stat().st_nlink for entry in entries if entry.is_file()} == {1}


def test_the_command_tells_what_would_go_and_asks_for_a_reason(lasting: Any) -> None:
    told = json.loads(lasting.ok("gc", "--dry-run", "--json"))
    assert told["dry_run"]
    assert told["size"] == 0
    assert {kept["what"] for kept in told["kept"]} == {"generation 1 of vm1", *installed(lasting)}

    shown = lasting.ok("gc", "--dry-run")
    assert "would go: nothing" in shown
    assert "made or used within 30 days" in shown
    assert "0 B freed" in lasting.ok("gc")

    code, _, err = lasting.run("gc", "--purge", "tiny-roto@1.0.0")
    assert (code, "--reason with it" in err) == (2, True)
    code, _, err = lasting.run("gc", "--purge", "tiny-roto@1.0.0", "--reason", "the vendor asks")
    assert (code, "put in place within a day" in err) == (3, True)


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime turns the clock of a real command")
def test_the_command_takes_it_after_its_days(spare: Any) -> None:
    policy(spare, days=1)
    command = ["faketime", "-f", "+3d", sys.executable, "-m", "changeover_updater", "--config", str(spare.config)]

    done = subprocess.run([*command, *spare.extra, "gc"], capture_output=True, text=True, check=True)

    assert "acme/tiny-roto@1.0.0" in done.stdout
    assert "freed" in done.stdout
    assert versions(spare) == ["1.1.0"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1536, "1.54 kB"), (734_003_200, "734 MB"), (5 * 10**15, "5000 TB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
