"""Changes made by somebody who wants another holder to sign what that one does not see: each is refused or shown."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import canonical, signing
from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.repository import vendor_draft, vendor_keys, vendor_waiting
from changeover_registry.repository.vendor_change import WaitsError
from changeover_updater.cli.main import run

Vendor = Any
Forge = Callable[[dict[str, Any]], None]


@pytest.fixture
def bob(tmp_path: Path) -> Path:
    """Another holder's private key."""
    signing.new_key(tmp_path / "bob.pem")
    return tmp_path / "bob.pem"


@pytest.fixture
def waits(acme: Vendor, bob: Path) -> Path:
    """A release that waits for bob's signature."""
    vendor_keys.sign(acme.folder, replace(acme.keys, more=(bob,)), keys_wait(acme, bob), acme.now)
    with pytest.raises(WaitsError):
        acme.publish(acme.make(version="1.1.0", content=b"more"))
    (path,) = vendor_waiting.waiting(acme.folder)
    return path


def keys_wait(acme: Vendor, bob: Path) -> Path:
    """A threshold of two, which waits for bob: it changes targets and the model's role."""
    acme.publish(acme.make())
    vendor_keys.add(acme.folder, acme.keys, "release", signing.load_signer(bob).public_key, acme.now)
    with pytest.raises(WaitsError):
        vendor_keys.set_threshold(acme.folder, acme.keys, "release", 2, acme.now)
    (path,) = vendor_waiting.waiting(acme.folder)
    return path


def forged(path: Path, role: str, forge: Forge, **body_too: Any) -> None:
    """Change what is signed of one role of a waiting change, as somebody does who writes the file by hand."""
    body = json.loads(path.read_bytes())
    (file,) = [one for one in body["files"] if one["role"] == role]
    text = json.loads(file["text"])
    forge(text["signed"])
    file["text"] = json.dumps(text)
    path.write_bytes(canonical.dumps({**body, **body_too}))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(acme: Vendor, bob: Path, path: Path, says: str) -> None:
    """Neither at home nor elsewhere does anybody sign it, and nothing is changed."""
    before = bytes_of(acme.folder)
    for work in (
        lambda: vendor_keys.sign(acme.folder, replace(acme.keys, more=(bob,)), path, acme.now),
        lambda: vendor_waiting.sign_copy(path, [signing.load_signer(bob)]),
    ):
        with pytest.raises(InvalidInputError, match=says):
            work()
    assert bytes_of(acme.folder) == before


def test_another_key_under_the_id_that_holders_know_is_signed_by_nobody(acme: Vendor, bob: Path) -> None:
    path = keys_wait(acme, bob)
    bobs = signing.load_signer(bob).public_key.keyid

    def swap(signed: dict[str, Any]) -> None:
        signed["delegations"]["keys"][bobs]["keyval"]["public"] = "ab" * 32

    forged(path, "targets", swap)
    refused(acme, bob, path, f"another key under the id {bobs[:12]}")


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (lambda role: role.update(paths=["*"]), "that speaks for"),
        (lambda role: role.update(paths=["person-roto/*", "hair/*"]), "that speaks for"),
        (lambda role: role.update(name="hair"), "'hair' that speaks for person-roto"),
        (lambda role: role.update(terminating=False), "that speaks for"),
    ],
)
def test_a_role_that_would_speak_for_other_models_is_signed_by_nobody(
    acme: Vendor, bob: Path, forge: Forge, says: str
) -> None:
    path = keys_wait(acme, bob)
    forged(path, "targets", lambda signed: forge(signed["delegations"]["roles"][0]))
    refused(acme, bob, path, says)


@pytest.mark.parametrize("role", ["snapshot", "timestamp", "../../x", "x/../y"])
def test_a_role_of_another_kind_of_name_is_signed_by_nobody(acme: Vendor, bob: Path, waits: Path, role: str) -> None:
    body = json.loads(waits.read_bytes())
    body["files"][0]["role"] = role
    waits.write_bytes(canonical.dumps(body))
    refused(acme, bob, waits, "a role of the name")


def test_a_target_outside_its_role_is_signed_by_nobody(acme: Vendor, bob: Path, waits: Path) -> None:
    text = waits.read_text(encoding="utf-8").replace("person-roto/index.json", "../../evil/index.json")
    waits.write_text(text, encoding="utf-8")
    refused(acme, bob, waits, "for which person-roto does not speak")
    assert not (acme.base / "evil").exists()


def test_a_model_that_the_vendor_does_not_have_is_one_line(acme: Vendor, bob: Path, waits: Path) -> None:
    body = json.loads(waits.read_bytes())
    text = json.loads(body["files"][0]["text"])
    text["signed"].update(version=1, targets={})
    body["files"][0].update(role="ghost", text=json.dumps(text))
    other = waits.with_name("1.ghost.json")
    other.write_bytes(canonical.dumps({**body, "targets": []}))
    before = bytes_of(acme.folder)

    with pytest.raises(InvalidInputError, match="ghost: expected a model of this vendor: person-roto"):
        vendor_keys.sign(acme.folder, replace(acme.keys, more=(bob,)), other, acme.now)

    assert bytes_of(acme.folder) == before


def test_an_index_that_is_not_in_the_file_is_shown_and_not_signed_at_home(acme: Vendor, bob: Path, waits: Path) -> None:
    def swap(signed: dict[str, Any]) -> None:
        signed["targets"]["person-roto/index.json"]["hashes"]["sha256"] = "ab" * 32

    forged(waits, "person-roto", swap, what="renew person-roto", targets=[])
    before = bytes_of(acme.folder)

    shown = vendor_draft.summary(vendor_waiting.read_draft(waits))
    assert any(f"sha256 {'ab' * 32}, not in this file" in line for line in shown)
    with pytest.raises(TrustError, match="whose bytes nobody has seen"):
        vendor_keys.sign(acme.folder, replace(acme.keys, more=(bob,)), waits, acme.now)

    assert bytes_of(acme.folder) == before


def test_a_wrong_signature_under_a_holders_id_does_not_keep_that_holder_from_signing(
    acme: Vendor, tmp_path: Path, bob: Path, waits: Path
) -> None:
    body = json.loads(waits.read_bytes())
    text = json.loads(body["files"][0]["text"])
    text["signatures"].append({"keyid": signing.load_signer(bob).public_key.keyid, "sig": "00"})
    body["files"][0]["text"] = json.dumps(text)
    waits.write_bytes(canonical.dumps(body))

    vendor_keys.sign(acme.folder, replace(acme.keys, more=(bob,)), waits, acme.now)

    assert [entry.version for entry in acme.view(tmp_path / "s").indexes["person-roto"].releases] == ["1.0.0", "1.1.0"]


def test_a_holder_without_a_home_looks_before_signing(
    acme: Vendor, bob: Path, waits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / waits.name
    shutil.copy(waits, copy)

    assert run(["vendor", "keys", "sign", str(copy)]) == 2
    out, err = capsys.readouterr()

    assert "person-roto 1.1.0: record sha256" in out
    assert "name yours with --key" in err
    assert copy.read_bytes() == waits.read_bytes()


@pytest.mark.parametrize("data", [b"garbage", b"{}", b"x" * (16 * 1024 * 1024 + 1)])
def test_what_is_no_change_at_all_names_the_command_that_takes_it_away(acme: Vendor, waits: Path, data: bytes) -> None:
    waits.write_bytes(data)

    with pytest.raises(InvalidInputError, match=rf"changeover vendor keys sign {waits.stem} --reject") as caught:
        vendor_waiting.read_draft(waits)

    assert "\n" not in str(caught.value)
    assert vendor_waiting.remove(acme.folder, waits.stem)
    assert vendor_waiting.waiting(acme.folder) == ()
