"""Keys that a vendor replaces, 20 roots of it, and names by which it tries to speak for somebody else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, Targets

from changeover_registry import signing
from changeover_registry.errors import ChangeoverError, TrustError
from changeover_registry.records.repository import Index
from changeover_registry.repository import metadata, vendor_keys
from changeover_registry.repository.reached import read_reached

Vendor = Any


def test_a_new_release_key_publishes_and_the_old_one_no_more(acme: Vendor, tmp_path: Path) -> None:
    acme.publish(acme.make())
    acme.publish(acme.make("hair", content=b"hair"))
    acme.view(tmp_path / "state")
    old = acme.keys.release.read_bytes()

    key = vendor_keys.rotate(acme.folder, acme.keys, "release", acme.now)

    assert {held.key_id for held in vendor_keys.held_keys(acme.folder, acme.keys) if held.role == "hair"} == {key}
    acme.publish(acme.make(version="1.1.0", content=b"more"))
    assert len(acme.view(tmp_path / "state").indexes["person-roto"].releases) == 2
    acme.keys.release.write_bytes(old)
    with pytest.raises(TrustError, match="role hair"):
        acme.publish(acme.make("hair", "1.1.0", b"more hair"))


def test_wherever_a_new_release_key_is_killed_studios_verify_and_it_goes_on(
    acme: Vendor, tmp_path: Path, disk_states: Any
) -> None:
    acme.publish(acme.make())
    with disk_states.watching(acme.base, tmp_path / "states") as states:
        vendor_keys.rotate(acme.folder, acme.keys, "release", acme.now)
    for number, state in enumerate(states):
        again = type(acme)(state, "acme", acme.now)
        assert "person-roto" in again.view(tmp_path / f"state-{number}").indexes
        vendor_keys.rotate(again.folder, again.keys, "release", acme.now)
        again.publish(again.make(version="1.1.0", content=b"more"))
        assert len(again.view(tmp_path / f"state-{number}").indexes["person-roto"].releases) == 2


def test_a_studio_walks_20_roots_of_a_vendor_and_another_vendor_is_unaffected(
    acme: Vendor, make_vendor: Callable[..., Vendor], tmp_path: Path
) -> None:
    first = acme.root
    rival = make_vendor("rival")
    acme.publish(acme.make())
    rival.publish(rival.make())
    acme.view(tmp_path / "acme-state")
    rival.view(tmp_path / "rival-state")
    stolen = tmp_path / "stolen.pem"
    stolen.write_bytes(acme.keys.online.read_bytes())

    for _ in range(20):
        vendor_keys.rotate(acme.folder, acme.keys, "online", acme.now)

    assert acme.root == first
    for state in ("acme-state", "new"):
        assert len(acme.view(tmp_path / state).indexes["person-roto"].releases) == 1
    assert len(rival.view(tmp_path / "rival-state").indexes["person-roto"].releases) == 1
    reached = read_reached(acme.folder, acme.root)
    forged: Metadata[Any] = Metadata(reached.timestamp)
    reached.timestamp.version += 2**40
    forged.sign(signing.load_signer(stolen))
    (acme.folder / "metadata" / "timestamp.json").write_bytes(forged.to_bytes())
    with pytest.raises(TrustError, match=r"timestamp\.json: expected 1 signature\(s\)"):
        acme.view(tmp_path / "acme-state")


NAMES = (
    "hair/index.json",
    "Hair/index.json",
    "HAIR/index.json",
    "person-roto/../hair/index.json",
    "person-roto/./index.json",
    "person-roto//index.json",
    "/person-roto/index.json",
    "person-roto%2f..%2fhair/index.json",
    "person-roto\\index.json",
    "person-roto/hair/index.json",
    "Person-Roto/index.json",
    "person\u2010roto/index.json",
    "vendor.json",
    "../vendor.json",
    "h\u0430ir/index.json",
    "hair /index.json",
    "person-roto/index.json\u0000",
    "CON/index.json",
    "*/index.json",
)


@pytest.mark.parametrize("name", NAMES)
def test_no_spelling_of_a_name_lets_a_role_speak_for_another(acme: Vendor, tmp_path: Path, name: str) -> None:
    """Whoever has one model's key names a target by every spelling of somebody else's."""
    acme.publish(acme.make())
    acme.publish(acme.make("hair", content=b"hair"))
    evil = Index(vendor="acme", name="hair").to_bytes()
    role: Targets = metadata.renewed(read_reached(acme.folder, acme.root).roles["person-roto"], "person-roto", acme.now)
    role.targets[name] = metadata.target_info(name, evil)
    publish_as_is(acme, role)
    client = acme.client(tmp_path / "state")

    view = acme.view(tmp_path / "state")

    assert len(view.indexes["hair"].releases) == 1
    assert view.card.models == ("hair", "person-roto")
    client.refresh()
    try:
        data = client.target(name, limit=10_000)
    except ChangeoverError:
        return
    assert data != evil


def publish_as_is(acme: Vendor, role: Targets) -> None:
    """Snapshot and timestamp by the online key over a role file by the model's own key."""
    made: Metadata[Any] = Metadata(role)
    made.sign(signing.load_signer(acme.keys.release))
    data = made.to_bytes()
    file = metadata.RoleFile("person-roto", role.version, data)
    file.path(acme.folder).write_bytes(data)
    assert MetaFile.from_data(role.version, data, ["sha256"]).length == len(data)
    reached = read_reached(acme.folder, acme.root)
    metadata.reach(acme.folder, reached, [file], signing.load_signer(acme.keys.online), acme.now)
