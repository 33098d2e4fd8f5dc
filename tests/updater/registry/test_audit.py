"""What lies in site, store and repositories is compared with what was signed, and what differs is named."""

import hashlib
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import _fs
from changeover_registry.errors import TrustError, UnreachableError
from changeover_updater.audit import KEPT, Difference, Item, Journal, Part, Report, exit_code, local_item, sweep
from changeover_updater.release_folder import read_release

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
MIB = 1 << 20


def nobody(place: str, done: int) -> None:
    """Nobody watches."""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def flip(path: Path) -> tuple[str, str]:
    """Change one byte of a file, its size and its times aside; returns its digests before and after."""
    data, status = bytearray(path.read_bytes()), path.stat()
    before = sha(bytes(data))
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return before, sha(bytes(data))


def audit(world: Any, *arguments: str) -> tuple[int, list[tuple[str, str, str, str]]]:
    """Exit code, and of each difference what kind it is, where, what was expected and what was found."""
    code, out, err = world.run("audit", *arguments, "--json")
    assert out, err
    found = [one for part in json.loads(out)["parts"] for one in part["differences"]]
    return code, [(one["kind"], one["place"], one["expected"], one["actual"]) for one in found]


@pytest.fixture(scope="module")
def shared(module_world: Any) -> Any:
    """A studio on 1.0.0, with 1.1.0 published and one verdict; its MLflow is not asked."""
    module_world.without_mlflow()
    module_world.served("1.0.0")
    module_world.publish("1.1.0")
    assert audit(module_world, "site", "store") == (0, [])
    return module_world


@pytest.fixture
def studio(shared: Any) -> Iterator[Any]:
    """The shared studio; once the test has ended, every file of it is as it was."""
    folders = [shared.root / name for name in ("site", "store", "vendor")]
    kept = {
        path: (path.read_bytes(), path.stat()) for folder in folders for path in folder.rglob("*") if path.is_file()
    }
    yield shared
    for path in [path for folder in folders for path in folder.rglob("*") if not path.is_dir()]:
        if path.is_symlink() or path not in kept:
            path.unlink()
    for path, (data, status) in kept.items():
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            path.chmod(status.st_mode)


def installed(world: Any) -> Path:
    (path,) = (world.root / "store" / "releases").rglob("model.onnx")
    return Path(path)


# What differs.


def test_byte_changed_in_the_store_is_named_with_both_digests(studio: Any) -> None:
    path = installed(studio)
    before, after = flip(path)

    code, found = audit(studio, "store")

    place = path.relative_to(studio.root / "store").as_posix()
    assert (code, found) == (5, [("altered", place, f"sha256 {before}", f"sha256 {after}")])


def test_installed_file_that_is_gone_or_a_link_is_named(studio: Any, tmp_path: Path) -> None:
    path = installed(studio)
    (tmp_path / "copy").write_bytes(path.read_bytes())
    path.parent.chmod(0o755)
    path.unlink()

    gone = audit(studio, "store")
    path.symlink_to(tmp_path / "copy")
    link = audit(studio, "store")

    assert (gone[0], gone[1][0][0], gone[1][0][3]) == (5, "missing", "no such file")
    assert (link[0], link[1][0][0]) == (5, "altered")
    assert "a link" in link[1][0][3]


def policy(world: Any) -> Path:
    return Path(world.site.root / "policy.toml")


def record(world: Any) -> Path:
    return Path(min((world.site.root / "trust" / "acme" / "records").glob("*.json")))


def verdict(world: Any) -> Path:
    (path,) = world.site.verdicts.glob("*.json")
    return Path(path)


def target(world: Any) -> Path:
    return newest((world.site.root / "trust" / "acme" / "mirror" / "targets").rglob("*.index.json"))


def metadata(world: Any) -> Path:
    return Path(world.site.root / "trust" / "acme" / "mirror" / "metadata" / "timestamp.json")


def root(world: Any) -> Path:
    return Path(world.site.root / "trust" / "acme" / "root.json")


def choice(world: Any) -> Path:
    return newest((world.site.choice / "targets" / "site").glob("*.json"))


def newest(paths: Iterator[Path]) -> Path:
    return max(paths, key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("which", [policy, record, verdict, target, metadata, root, choice])
def test_signed_file_of_the_site_that_was_changed_is_named(studio: Any, which: Callable[[Any], Path]) -> None:
    path = which(studio)
    flip(path)

    code, found = audit(studio, "site")

    assert code == 5
    assert any(one[1].endswith(path.name) for one in found), found


def test_record_that_is_gone_is_named_and_sync_brings_it(studio: Any) -> None:
    path = record(studio)
    path.unlink()

    code, found = audit(studio, "site")
    studio.ok("sync")

    assert (code, found[0][0]) == (5, "missing")
    assert path.name in found[0][1]
    assert audit(studio, "site") == (0, [])


def test_file_among_the_verdicts_that_is_named_otherwise_is_told(studio: Any) -> None:
    (studio.site.verdicts / "mine.json").write_bytes(b"{}")

    assert audit(studio, "site")[1] == [
        ("unknown", "verdicts/mine.json", "a file that is named by its sha256", "another name")
    ]


def test_repository_of_a_vendor_is_brought_and_hashed_where_it_is_asked_for(studio: Any) -> None:
    file = read_release(studio.folders / "1.1.0").variants[0].files[0]
    digest = file.sha256
    assert audit(studio, "repositories") == (0, [])
    path = studio.repository / "objects" / digest[:2] / digest
    _, after = flip(path)

    code, found = audit(studio, "repositories")

    assert code == 5
    assert [(one[0], one[2], one[3]) for one in found] == [("altered", f"sha256 {digest}", f"sha256 {after}")]
    assert f"acme/tiny-roto@1.1.0: onnx-fp32/{file.path}" in found[0][1]


def test_repository_whose_metadata_was_forged_is_named(studio: Any) -> None:
    flip(studio.repository / "metadata" / "timestamp.json")

    code, found = audit(studio, "repositories")

    assert code == 5
    assert "timestamp" in found[0][1]


def test_mlflow_that_does_not_answer_is_told_and_the_journal_stays(studio: Any, tmp_path: Path) -> None:
    path, config = tmp_path / "journal", studio.site.root / "site.toml"
    config.write_text('schema = "changeover.site/1"\nmlflow = "http://127.0.0.1:1"\n', encoding="utf-8")

    code, out, _ = studio.run("audit", "--json", "--journal", str(path))

    parts = {part["part"]: part for part in json.loads(out)["parts"]}
    assert code == 6
    assert "127.0.0.1:1" in parts["mlflow"]["trouble"]
    assert parts["store"]["compared"] > 0
    assert path.exists()


def test_person_reads_the_parts_and_each_difference(studio: Any) -> None:
    before, after = flip(installed(studio))

    code, out, _ = studio.run("audit", "site", "store")

    assert code == 5
    assert "site: " in out
    assert "store: 2 files compared" in out
    assert "1 not as signed" in out
    assert f"expected sha256 {before}" in out
    assert f"found    sha256 {after}" in out


def test_audit_changes_nothing(studio: Any) -> None:
    def state() -> dict[str, tuple[int, int]]:
        paths = (path for path in studio.root.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}

    before = state()

    audit(studio, "site", "store", "repositories")

    assert state() == before


def test_part_that_there_is_none_of_is_refused(studio: Any) -> None:
    code, _, err = studio.run("audit", "shop")

    assert code == 2
    assert "site, store, mlflow, repositories" in err


# The sweep itself.


def item(name: str, data: bytes, *, expected: bytes | None = None) -> Item:
    return Item(name, sha(data if expected is None else expected), lambda: iter([data]))


def part(*held: Item | Difference) -> Part:
    return Part("part", lambda: iter(held))


def test_sweep_counts_what_is_right_and_keeps_what_is_not() -> None:
    report = sweep(part(item("a", b"12"), item("b", b"345", expected=b"x")), Journal(), nobody)

    assert (report.compared, report.bytes) == (2, 5)
    assert report.differences == (Difference("altered", "b", f"sha256 {sha(b'x')}", f"sha256 {sha(b'345')}"),)


def test_differences_beyond_a_thousand_are_counted() -> None:
    report = sweep(part(*(item(str(n), b"1", expected=b"2") for n in range(KEPT + 7))), Journal(), nobody)

    assert (len(report.differences), report.more) == (KEPT, 7)


def test_item_that_cannot_be_read_is_told_and_the_sweep_goes_on() -> None:
    def broken() -> Iterator[bytes]:
        raise OSError(5, "Input/output error")
        yield b""

    report = sweep(part(Item("a", sha(b""), broken), item("b", b"1")), Journal(), nobody)

    assert [one.kind for one in report.differences] == ["unreadable"]
    assert report.compared == 2


def test_what_is_refused_midway_is_a_difference_and_what_does_not_answer_ends_the_part() -> None:
    def holds(error: Exception) -> Callable[[], Iterator[Item]]:
        def listed() -> Iterator[Item]:
            yield item("a", b"1")
            raise error

        return listed

    said = {"where": "there", "expected": "this", "actual": "that", "remedy": "mend it"}
    refused = sweep(Part("p", holds(TrustError("rule", **said))), Journal(), nobody)
    silent = sweep(Part("p", holds(UnreachableError("rule", **said))), Journal(), nobody)
    broken = sweep(Part("p", holds(PermissionError(13, "Permission denied", "/x"))), Journal(), nobody)

    assert refused.differences == (Difference("altered", "there", "this", "that"),)
    assert (silent.differences, silent.trouble is not None, silent.compared) == ((), True, 1)
    assert broken.differences[0].kind == "unreadable"
    assert [exit_code((one,)) for one in (refused, silent, broken)] == [5, 6, 9]


@pytest.mark.parametrize(
    ("kinds", "trouble", "code"),
    [((), False, 0), (("altered",), True, 5), (("missing",), False, 5), (("unknown",), False, 5), ((), True, 6)],
)
def test_difference_outweighs_silence(kinds: tuple[Any, ...], trouble: bool, code: int) -> None:
    error = UnreachableError("a", where="b", expected="c", actual="d", remedy="e") if trouble else None
    report = Report("p", 1, 0, 1, tuple(Difference(kind, "a", "b", "c") for kind in kinds), 0, error)

    assert exit_code((report,)) == code


def test_large_file_is_never_in_memory_whole(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(256 * MIB)
    expected = sha(bytes(256 * MIB))
    tracemalloc.start()
    report = sweep(part(local_item(path, "large", expected)), Journal(), nobody)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert report.differences == ()
    assert peak < 16 * MIB


# The journal.


def test_stopped_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    path, read = tmp_path / "journal", list[str]()

    def counted(name: str) -> Item:
        def pieces() -> Iterator[bytes]:
            read.append(name)
            yield name.encode()

        return Item(name, sha(name.encode()), pieces)

    def stopped() -> Iterator[Item]:
        yield counted("a")
        yield counted("b")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(Part("p", stopped), Journal.open(path, NOW), nobody)
    report = sweep(Part("p", lambda: map(counted, "abc")), Journal.open(path, NOW + timedelta(hours=1)), nobody)

    assert read == ["a", "b", "c"]
    assert (report.known, report.compared) == (2, 1)


def test_file_that_was_written_since_is_compared_again_and_what_differed_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"right")
    held = [local_item(tmp_path / name, name, sha(b"right")) for name in ("a", "b")]
    sweep(part(*held, item("c", b"1", expected=b"2")), Journal.open(tmp_path / "journal", NOW), nobody)
    flip(tmp_path / "b")

    again = [local_item(tmp_path / name, name, sha(b"right")) for name in ("a", "b")]
    journal = Journal.open(tmp_path / "journal", NOW)
    report = sweep(part(*again, item("c", b"1", expected=b"2")), journal, nobody)

    assert report.known == 1
    assert [one.place for one in report.differences] == ["b", "c"]


def test_journal_of_last_month_or_cut_in_a_line_is_no_reason_to_skip(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    sweep(part(item("a", b"1"), item("b", b"2")), Journal.open(path, NOW), nobody)
    whole = path.read_text(encoding="ascii")

    path.write_text(whole[:-5], encoding="ascii")
    cut = sweep(part(item("a", b"1"), item("b", b"2")), Journal.open(path, NOW), nobody)
    path.write_text(whole, encoding="ascii")
    old = sweep(part(item("a", b"1"), item("b", b"2")), Journal.open(path, NOW + timedelta(days=8)), nobody)

    assert (cut.known, old.known) == (1, 0)


@pytest.mark.parametrize("notes", ["my notes\n", "\nmy notes\n"])
def test_file_that_is_no_journal_is_left_alone(tmp_path: Path, studio: Any, notes: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(notes, encoding="utf-8")

    code, _, err = studio.run("audit", "store", "--journal", str(path))

    assert code == 9
    assert "no journal" in err
    assert path.read_text(encoding="utf-8") == notes


def test_device_that_is_named_as_the_journal_is_not_removed_at_the_end(tmp_path: Path, studio: Any) -> None:
    path = tmp_path / "null"
    os.mkfifo(path)

    code, _, err = studio.run("audit", "store", "--journal", str(path))

    assert (code, "this is no file" in err) == (9, True)
    assert path.is_fifo()


def test_journal_that_cannot_be_written_is_named_and_not_what_is_compared() -> None:
    journal = Journal(Path("/dev/full"))

    report = sweep(part(item("a", b"1")), journal, nobody)

    assert [(one.kind, one.place, one.actual) for one in report.differences] == [
        ("unreadable", "/dev/full", "No space left on device")
    ]


def test_what_a_killed_command_left_half_written_is_nobodys_forgery(studio: Any) -> None:
    folder = studio.site.root / "local" / "studio" / "objects" / "ab"
    folder.mkdir(parents=True)
    try:
        _fs.temporary_beside(folder / ("ab" * 32)).write_bytes(b"half")
        assert studio.run("audit", "site")[0] == 0
        (folder / "notes.txt").write_bytes(b"somebody's")
        assert studio.run("audit", "site")[0] == 5
    finally:
        shutil.rmtree(folder.parents[1])


def test_journal_is_gone_after_a_whole_sweep(tmp_path: Path, studio: Any) -> None:
    path = tmp_path / "journal"

    assert studio.run("audit", "site", "store", "--journal", str(path))[0] == 0

    assert not path.exists()


def test_vendor_that_is_trusted_no_longer_still_has_its_installed_files_compared(studio: Any) -> None:
    studio.ok("trust", "remove", "acme")
    before, _ = flip(installed(studio))

    code, found = audit(studio, "store")

    assert (code, found[0][2]) == (5, f"sha256 {before}")


def test_studio_without_a_station_is_audited_from_the_root_of_its_site(studio: Any) -> None:
    code, out, _ = studio.run("--station", "nobody", "audit", "site", "--json")

    assert code == 0
    assert json.loads(out)["parts"][0]["compared"] > 0
