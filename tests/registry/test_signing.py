import base64
import json
import stat
from pathlib import Path

import pytest

from changeover_registry import canonical, signing
from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.records.choice import VerdictKey


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "verdict.pem"
    signing.new_key(path)
    return path


def enrolled(path: Path, owner: str = "jane") -> VerdictKey:
    return signing.verdict_key(signing.load_signer(path), owner)


def test_a_new_key_is_private_and_is_read_back_as_itself(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    public = signing.new_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signing.public_key(signing.load_signer(path)) == public
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_new_key_is_never_written_over_another(key: Path) -> None:
    before = key.read_bytes()
    with pytest.raises(FileExistsError):
        signing.new_key(key)
    assert key.read_bytes() == before


def test_a_key_that_is_there_is_kept_and_one_that_is_missing_is_made(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "key.pem"
    first = signing.ensure_key(path)
    assert signing.ensure_key(path) == first
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "content", [None, b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused_naming_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"key\.pem: expected a private key"):
        signing.load_signer(path)


def test_an_envelope_gives_back_the_payload_and_who_signed_it(key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    signing.new_key(other)
    envelope = signing.sign_envelope(b'{"a":1}', "verdict", signing.load_signer(key))
    keys = [enrolled(other, "joe"), enrolled(key)]
    assert signing.open_envelope(envelope, "verdict", keys, where="v") == (b'{"a":1}', keys[1])


def test_an_envelope_is_canonical_and_names_its_kind(key: Path) -> None:
    envelope = signing.sign_envelope(b"x", "verdict", signing.load_signer(key))
    assert canonical.loads(envelope, where="v")["payloadType"] == "application/vnd.changeover.verdict+json"
    assert envelope == signing.sign_envelope(b"x", "verdict", signing.load_signer(key))


def test_a_key_that_is_not_enrolled_is_refused_naming_both(key: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    signing.new_key(stranger)
    envelope = signing.sign_envelope(b"x", "verdict", signing.load_signer(stranger))
    with pytest.raises(TrustError) as caught:
        signing.open_envelope(envelope, "verdict", [enrolled(key)], where="v.json")
    assert "jane" in caught.value.expected
    assert enrolled(stranger).key_id[:12] in caught.value.actual


def test_with_no_key_enrolled_nothing_opens(key: Path) -> None:
    envelope = signing.sign_envelope(b"x", "verdict", signing.load_signer(key))
    with pytest.raises(TrustError, match="no key is enrolled"):
        signing.open_envelope(envelope, "verdict", [], where="v.json")


def test_a_payload_changed_after_signing_is_refused(key: Path) -> None:
    envelope = json.loads(signing.sign_envelope(b"accept", "verdict", signing.load_signer(key)))
    envelope["payload"] = base64.b64encode(b"reject").decode()
    with pytest.raises(TrustError, match="signature"):
        signing.open_envelope(canonical.dumps(envelope), "verdict", [enrolled(key)], where="v.json")


def test_an_envelope_of_another_kind_is_refused_though_well_signed(key: Path) -> None:
    envelope = signing.sign_envelope(b"x", "choice", signing.load_signer(key))
    with pytest.raises(TrustError, match="kind"):
        signing.open_envelope(envelope, "verdict", [enrolled(key)], where="v.json")


def test_the_key_id_of_an_enrolled_key_does_not_lend_its_name_to_another(key: Path, tmp_path: Path) -> None:
    forger = tmp_path / "forger.pem"
    signing.new_key(forger)
    envelope = json.loads(signing.sign_envelope(b"x", "verdict", signing.load_signer(forger)))
    envelope["signatures"][0]["keyid"] = enrolled(key).key_id
    with pytest.raises(TrustError, match="signature"):
        signing.open_envelope(canonical.dumps(envelope), "verdict", [enrolled(key)], where="v.json")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"payload":"","payloadType":"a","signatures":[1]}',
        b'{"payload":"","payloadType":"a","signatures":[{"keyid":"a","sig":"!"}]}',
        b'{"payload":"","payloadType":"a","signatures":null}',
        b'{"payload": "","payloadType":"a","signatures":[]}',
    ],
)
def test_bytes_that_are_no_envelope_are_refused_naming_the_file(key: Path, data: bytes) -> None:
    with pytest.raises(TrustError, match=r"v\.json"):
        signing.open_envelope(data, "verdict", [enrolled(key)], where="v.json")
