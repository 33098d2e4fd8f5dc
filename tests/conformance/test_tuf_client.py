"""The attacks that TUF names, against our client through the command line of the conformance suite.

The suite itself is not ours to ship; `make tuf-conformance SUITE=DIR` runs it on the same command.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, TargetFile

from changeover_registry.client import Client
from changeover_registry.errors import TrustError
from changeover_registry.transport import open_transport

Repository = Any
Command = Any
PAST = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
BOUND = 8 * 1024 * 1024
"""More than any limit of the client, less than a server that sends for ever comes to; sockets hold a little."""


def test_the_command_as_the_suite_starts_it(executable: Command, repository: Repository) -> None:
    repository.add("acme/model.bin", b"weights")
    repository.publish("targets")
    assert executable.refresh() == 0
    assert executable.download("acme/model.bin") == 0
    assert executable.held() == [b"weights"]
    assert {path.name for path in executable.metadata.glob("*.json")} == {
        "root.json",
        "timestamp.json",
        "snapshot.json",
        "targets.json",
    }
    repository.files.clear()
    assert executable.download("acme/model.bin") == 1
    assert executable.held() == [b"weights"]


# Arbitrary installation and wrong software.


def test_bytes_that_nobody_signed_are_not_stored(client: Command, repository: Repository) -> None:
    repository.add("model.bin", b"weights")
    repository.publish("targets")
    (stored,) = (path for path in repository.files if path.endswith("model.bin"))
    repository.files[stored] = b"malware"
    assert client.download("model.bin") == 1
    assert "digest" in client.said
    assert client.held() == []
    repository.files[stored] = b"weights"
    assert client.download("model.bin") == 0


def test_another_signed_target_under_the_name_that_was_asked_for_is_refused(
    client: Command, repository: Repository
) -> None:
    repository.add("person.bin", b"person")
    repository.add("hair.bin", b"hair..")
    repository.publish("targets")
    person, hair = sorted((p for p in repository.files if p.startswith("targets/")), key=lambda p: p[-8:] == "hair.bin")
    repository.files[person] = repository.files[hair]
    assert client.download("person.bin") == 1
    assert client.held() == []


def test_metadata_by_keys_that_nobody_trusts_is_refused(client: Command, repository: Repository) -> None:
    repository.add("model.bin", b"malware")
    for role in ("targets", "snapshot", "timestamp"):
        repository.keys[role] = type(repository)().start().keys[role]
    repository.publish("targets")
    assert client.download("model.bin") == 1
    assert "signature" in client.said
    assert client.held() == []


# Endless data.


@pytest.mark.parametrize("path", ["metadata/2.root.json", "metadata/timestamp.json", "metadata/2.snapshot.json"])
def test_metadata_without_end_is_cut_off(client: Command, repository: Repository, path: str) -> None:
    repository.publish()
    repository.endless.add(path)
    assert client.refresh() == 1
    assert "length" in client.said
    assert repository.sent[path] < BOUND


def test_a_target_without_end_is_cut_off_and_leaves_nothing(client: Command, repository: Repository) -> None:
    repository.add("model.bin", b"weights")
    repository.publish("targets")
    repository.endless.update(path for path in repository.files if path.endswith("model.bin"))
    assert client.download("model.bin") == 1
    assert client.held() == []
    assert sum(repository.sent[path] for path in repository.endless) < BOUND


# Freeze.


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_expired_metadata_is_refused_by_name_and_what_is_held_stays(
    client: Command, repository: Repository, role: str
) -> None:
    repository.add("model.bin", b"weights")
    repository.publish("targets")
    assert client.download("model.bin") == 0
    repository.roles[role].expires = PAST
    repository.publish(*{"root", "targets"} & {role})
    assert client.download("model.bin") == 1
    assert f"{role}.json" in client.said
    assert "expired at" in client.said
    assert client.held() == [b"weights"]


# Rollback.


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_an_older_version_is_refused_even_when_it_is_signed(client: Command, repository: Repository, role: str) -> None:
    repository.publish("targets")
    repository.publish("targets")
    assert client.refresh() == 0
    repository.roles[role].version = 1
    repository.put(role, bump=False)
    for above in ("snapshot", "timestamp")[("targets", "snapshot", "timestamp").index(role) :]:
        repository.put(above)
    assert client.refresh() == 1
    assert "rollback" in client.said
    assert client.version(role) == 3


def test_a_role_that_vanishes_from_the_snapshot_is_a_rollback(client: Command, repository: Repository) -> None:
    repository.delegate("acme", "acme/*")
    repository.publish("acme", "targets")
    assert client.refresh() == 0
    del repository.roles["snapshot"].meta["acme.json"]
    repository.publish()
    assert client.refresh() == 1
    assert "acme.json in it, which was there before" in client.said


# Fast-forward.


def test_versions_that_a_thief_drove_up_are_left_behind_with_the_stolen_keys(
    client: Command, repository: Repository
) -> None:
    for role in ("snapshot", "timestamp"):
        repository.roles[role].version = 2**31 - 2
    repository.publish()
    assert client.refresh() == 0
    for role in ("snapshot", "timestamp"):
        repository.rekey(role)
        repository.roles[role].version = 2
    repository.publish("root")
    assert client.refresh() == 0
    assert (client.version("snapshot"), client.version("timestamp")) == (3, 3)


# Mix and match.


def test_files_of_two_states_are_never_taken_together(client: Command, repository: Repository) -> None:
    repository.add("model.bin", b"old")
    repository.publish("targets")
    old = repository.files["metadata/2.targets.json"]
    repository.add("model.bin", b"new")
    repository.publish("targets")
    repository.files["metadata/3.targets.json"] = old
    assert client.download("model.bin") == 1
    assert "hash of metadata" in client.said
    assert client.held() == []


# Thresholds.


@pytest.mark.parametrize("twice", [False, True], ids=["one-signature", "one-signature-twice"])
def test_one_key_of_two_signs_nothing(client: Command, repository: Repository, twice: bool) -> None:
    repository.rekey("targets", count=2, threshold=2)
    repository.publish("root", "targets")
    assert client.refresh() == 0
    one, _ = repository.keys["targets"]
    repository.add("model.bin", b"malware")
    repository.keys["targets"] = [one]
    repository.publish("targets")
    if twice:
        _add_signature_again(repository)
    assert client.download("model.bin") == 1
    assert "2 signature(s)" in client.said
    assert client.version("targets") == 2


def _add_signature_again(repository: Repository) -> None:
    """The same signature once more, under the id of the key that did not sign."""
    path = f"metadata/{repository.roles['targets'].version}.targets.json"
    metadata: Metadata[Any] = Metadata.from_bytes(repository.files[path])
    (signature,) = metadata.signatures.values()
    other = next(key for key in repository.root.roles["targets"].keyids if key != signature.keyid)
    again = type(signature)(other, signature.signature)
    metadata.signatures[other] = again
    repository.files[path] = metadata.to_bytes()
    about = MetaFile.from_data(metadata.signed.version, repository.files[path], ["sha256"])
    repository.roles["snapshot"].meta["targets.json"] = about
    repository.publish()


# Rotation of keys.


def test_twenty_roots_are_walked_one_by_one(client: Command, repository: Repository) -> None:
    for _ in range(20):
        repository.rekey_root()
    for role in ("targets", "snapshot", "timestamp"):
        repository.rekey(role)
    repository.add("model.bin", b"weights")
    repository.publish("root", "targets")
    assert client.download("model.bin") == 0
    assert client.version("root") == 22
    assert sum(path.endswith("root.json") for path in repository.sent if repository.sent[path]) == 21


def test_a_root_that_the_one_before_did_not_sign_ends_the_walk(client: Command, repository: Repository) -> None:
    repository.rekey_root()
    repository.rekey("root")
    repository.rekey("timestamp")
    repository.publish("root")
    assert client.refresh() == 1
    assert "root.json" in client.said
    assert client.version("root") == 2


# A vendor publishes under its own name alone.

TRICKS = {
    "another vendor's name": "acme/model.bin",
    "upper case": "ACME/model.bin",
    "mixed case": "Acme/Model.bin",
    "cyrillic a": "\u0430cme/model.bin",
    "full width": "\uff41cme/model.bin",
    "composed": "acme\u0301/model.bin",
    "climbing": "evil/../acme/model.bin",
    "encoded slash": "acme%2fmodel.bin",
    "encoded dots": "evil/%2e%2e/acme/model.bin",
    "backslash": "evil\\..\\acme\\model.bin",
    "absolute": "/acme/model.bin",
    "double slash": "evil//acme/model.bin",
    "too deep": "evil/deep/model.bin",
    "a dot before": "./acme/model.bin",
    "null byte": "evil/model.bin\x00",
}


@pytest.fixture
def two_vendors(repository: Repository) -> Repository:
    """Each of acme and evil with a role for names one below its own; evil names everything that it can think of."""
    repository.delegate("acme", "acme/*")
    evil = repository.delegate("evil", "evil/*")
    repository.add("acme/model.bin", b"acme's", "acme")
    for path in TRICKS.values():
        evil.targets[path] = TargetFile.from_data(path, b"evil", ["sha256"])
        folder, slash, name = path.rpartition("/")
        repository.files[f"targets/{folder}{slash}{evil.targets[path].hashes['sha256']}.{name}"] = b"evil"
    repository.add("evil/own.bin", b"evil's own", "evil")
    repository.publish("acme", "evil", "targets")
    return repository


@pytest.mark.usefixtures("two_vendors")
def test_no_trick_with_names_makes_one_vendor_publish_for_another(client: Command, tmp_path: Path) -> None:
    assert client.download("acme/model.bin", "evil/own.bin") == 0
    assert client.held() == [b"acme's", b"evil's own"]
    before = sorted(tmp_path.rglob("*"))
    for path in TRICKS.values():
        if path != "acme/model.bin":
            assert client.download(path) == 1, path
    assert client.held() == [b"acme's", b"evil's own"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_vendor_whose_role_is_gone_publishes_nothing_and_others_go_on(
    client: Command, two_vendors: Repository
) -> None:
    assert client.download("evil/own.bin") == 0
    targets = two_vendors.roles["targets"]
    del targets.delegations.roles["evil"]
    two_vendors.publish("targets")
    assert client.download("evil/own.bin") == 1
    assert client.download("acme/model.bin") == 0


def test_a_role_that_is_delegated_one_name_takes_none_beside_it(client: Command, repository: Repository) -> None:
    repository.delegate("one", "evil/one.bin", terminating=False)
    repository.delegate("all", "*")
    for path in ("evil/one.bin", "evil/two.bin"):
        repository.add(path, path.encode(), "one")
    repository.add("deep/er.bin", b"deeper", "all")
    repository.publish("one", "all", "targets")
    assert client.download("evil/one.bin") == 0
    assert client.download("evil/two.bin") == 1
    assert client.download("deep/er.bin") == 1
    assert client.held() == [b"evil/one.bin"]


# What the suite asks for beside what our repositories use.


def test_a_target_named_by_sha512_is_verified_by_it(client: Command, repository: Repository) -> None:
    repository.add("model.bin", b"weights")
    info = TargetFile.from_data("model.bin", b"weights", ["sha512"])
    repository.roles["targets"].targets["model.bin"] = info
    repository.files[f"targets/{info.hashes['sha512']}.model.bin"] = b"weights"
    repository.publish("targets")
    assert client.download("model.bin") == 0
    info.hashes["sha512"] = "0" * 128
    repository.files[f"targets/{'0' * 128}.model.bin"] = b"weights"
    repository.publish("targets")
    assert client.download("model.bin") == 1
    info.hashes = {"md5": "0" * 32}
    repository.publish("targets")
    assert client.download("model.bin") == 1
    assert "expected sha256 or sha512, found md5" in client.said


def test_a_target_that_is_held_is_not_fetched_again(client: Command, repository: Repository) -> None:
    repository.add("model.bin", b"weights")
    repository.publish("targets")
    assert client.download("model.bin") == 0
    (stored,) = (path for path in repository.files if path.endswith("model.bin"))
    assert client.download("model.bin") == 0
    assert repository.sent[stored] == len(b"weights")
    (held,) = client.targets.iterdir()
    held.write_bytes(b"damaged")
    assert client.download("model.bin") == 0
    assert client.held() == [b"weights"]


@pytest.fixture
def plain_names(repository: Repository) -> Repository:
    """A repository that does not name its files by version and digest."""
    repository.root.consistent_snapshot = False
    repository.add("model.bin", b"weights")
    repository.publish("root", "targets")
    for role in ("snapshot", "targets"):
        repository.files[f"metadata/{role}.json"] = repository.sign(role)
    repository.files["targets/model.bin"] = b"weights"
    return repository


@pytest.mark.usefixtures("plain_names")
def test_repository_without_consistent_snapshots_is_read_and_never_mirrored(
    client: Command, address: str, tmp_path: Path
) -> None:
    assert client.download("model.bin") == 0
    assert client.held() == [b"weights"]
    root = (client.metadata / "trusted-root").read_bytes()
    mirroring = Client(open_transport(address), tmp_path / "state", root, mirror=tmp_path / "mirror")
    with pytest.raises(TrustError, match="consistent_snapshot = true, found false"):
        mirroring.refresh()
    assert not (tmp_path / "mirror").exists()
