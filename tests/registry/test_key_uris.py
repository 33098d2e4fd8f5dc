import contextlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root

from changeover_registry import key_uris, pins, signing
from changeover_registry.clock import now as moment
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError, UnreachableError
from changeover_registry.records.key import KeyRecord
from changeover_registry.repository import choice, enrolment, metadata, pending, vendor, vendor_keys, vendor_terms
from changeover_servers.process import answers, free_ports, start

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
TOKEN, PIN = "acme", "4711"
P256 = "hsm:2?label=acme"


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module of SoftHSM with a token that holds an ECDSA key of id 2, made by its own tool and by PKCS#11.

    SoftHSM reads where its tokens are once in a process, so that the token is one for the session.
    """
    pkcs11: Any = pytest.importorskip("pkcs11", reason="the extra hsm is not installed")
    module = next((Path(place) for place in MODULES if Path(place).is_file()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed (the system package softhsm2)")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    make = ["softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--so-pin", "0815", "--pin", PIN]
    subprocess.run(make, check=True, capture_output=True, timeout=60)
    from pkcs11.util.ec import encode_named_curve_parameters

    with pkcs11.lib(str(module)).get_token(token_label=TOKEN).open(rw=True, user_pin=PIN) as session:
        for number in (2, 3):
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC,
                {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
                local=True,
            )
            parameters.generate_keypair(id=bytes([number]), label=f"key {number}", store=True)
    return module


@pytest.fixture
def token(softhsm: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(key_uris.ENV_MODULE, str(softhsm))
    monkeypatch.setenv(pins.ENV_PIN, PIN)
    yield
    pins.ask_with(None)


# moto hashes once more what it is told is a hash (5.2.5: "DIGEST is not yet implemented"); AWS does not.
_MOTO = """
import sys
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from moto.kms.utils import ECDSAPrivateKey
from moto.server import main
ECDSAPrivateKey.sign = lambda self, digest, algorithm: self.private_key.sign(
    digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))
)
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


@pytest.fixture(scope="session")
def key_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of moto's KMS, which takes digests as AWS does."""
    pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("boto3", reason="the extra s3 is not installed")
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("kms") / "log"
    server = start([sys.executable, "-c", _MOTO, str(port)], log, lambda: answers(f"http://127.0.0.1:{port}/moto-api/"))
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def kms(key_store: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the key store, for which the environment holds endpoint and credentials."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", key_store)
    for name, value in {"ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return boto3.client("kms")


def made(kms: Any, alias: str) -> str:
    number: str = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=f"alias/{alias}", TargetKeyId=number)
    return f"awskms:alias/{alias}"


def proven(path: Path) -> None:
    """The key at `path` signs what its public part verifies: TUF metadata and an envelope alike."""
    signer = signing.load_signer(path)
    signed = metadata.new_root(moment(), root=signer.public_key, targets=signer.public_key, online=signer.public_key)
    data = metadata.sign_root(signed, signed, signer).data
    read = Metadata[Root].from_bytes(data)
    assert read.signed.get_verification_result("root", read.signed_bytes, read.signatures).verified
    envelope = signing.sign_envelope(b"x", "verdict", signer)
    enrolled = signing.verdict_key(signer, "td")
    assert signing.open_envelope(envelope, "verdict", [enrolled], where="x") == (b"x", enrolled)


def refusal(work: Callable[[], object], kind: type[ChangeoverError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        work()
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("token")
def test_a_token_signs_and_its_public_part_stands_beside_the_uri(tmp_path: Path) -> None:
    path = tmp_path / "release.key"

    key = signing.new_key_elsewhere(path, P256)

    assert (path.stat().st_mode & 0o777, key.scheme) == (0o600, "ecdsa-sha2-nistp256")
    (tmp_path / "release.pub").write_bytes(signing.public_pem(path))
    assert signing.read_public_key(tmp_path / "release.pub") == key
    proven(path)


@pytest.mark.usefixtures("token")
def test_a_key_of_a_token_is_read_without_asking_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = signing.new_key_elsewhere(tmp_path / "a.key", P256)
    (tmp_path / "a.pub").write_bytes(signing.public_pem(tmp_path / "a.key"))
    monkeypatch.delenv(key_uris.ENV_MODULE)
    monkeypatch.delenv(pins.ENV_PIN)

    assert signing.new_key_elsewhere(tmp_path / "b.key", P256, tmp_path / "a.pub") == key
    assert signing.load_signer(tmp_path / "b.key").public_key == key
    refusal(lambda: signing.load_signer(tmp_path / "b.key").sign(b"x"), InvalidInputError, "PYKCS11LIB", "library")


@pytest.mark.usefixtures("token")
def test_a_pin_is_asked_once_and_a_wrong_one_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signing.new_key_elsewhere(tmp_path / "a.key", P256)
    monkeypatch.delenv(pins.ENV_PIN)
    signer = signing.load_signer(tmp_path / "a.key")
    refusal(lambda: signer.sign(b"x"), InvalidInputError, "CHANGEOVER_HSM_PIN", "neither")
    asked: list[str] = []
    answers = ["1234", PIN]

    def ask(name: str) -> str:
        asked.append(name)
        return answers[len(asked) - 1]

    pins.ask_with(ask)
    refusal(lambda: signer.sign(b"x"), InvalidInputError, "token's PIN", "another one")
    signer.sign(b"x")
    signer.sign(b"y")

    assert asked == ["pin", "pin"]


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("uri", "kind", "words"),
    [
        ("hsm:9?label=acme", InvalidInputError, ("hsm:9", "key")),
        ("hsm:2?label=nobody", UnreachableError, ("No PKCS#11 token found", "plug the token in")),
        ("vault:x", InvalidInputError, ("vault:", "hsm:, awskms:")),
        ("file:/nowhere/root.pem", InvalidInputError, ("/nowhere/root.pem", "no file")),
    ],
)
def test_a_uri_that_names_no_key_is_refused_and_nothing_is_written(
    tmp_path: Path, uri: str, kind: type[ChangeoverError], words: tuple[str, ...]
) -> None:
    refusal(lambda: signing.new_key_elsewhere(tmp_path / "a.key", uri), kind, *words)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("token")
def test_a_signature_by_another_key_than_the_enrolled_one_is_handed_to_nobody(tmp_path: Path) -> None:
    signing.new_key_elsewhere(tmp_path / "a.key", P256)
    record = KeyRecord.from_bytes((tmp_path / "a.key").read_bytes(), where="a.key")
    changed = record.model_copy(update={"uri": "hsm:3?label=acme"})
    (tmp_path / "b.key").write_bytes(changed.to_bytes())

    refusal(lambda: signing.load_signer(tmp_path / "b.key").sign(b"x"), TrustError, "hsm:3", "another key")


def test_a_cloud_key_store_signs_and_is_asked_for_nothing_but_signatures(tmp_path: Path, kms: Any) -> None:
    uri = made(kms, f"release-{tmp_path.name.lower()}")

    signing.new_key_elsewhere(tmp_path / "a.key", uri)

    proven(tmp_path / "a.key")


def test_an_alias_that_was_pointed_at_another_key_signs_nothing(tmp_path: Path, kms: Any) -> None:
    alias = f"moved-{tmp_path.name.lower()}"
    signing.new_key_elsewhere(tmp_path / "a.key", made(kms, alias))
    other = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    kms.update_alias(AliasName=f"alias/{alias}", TargetKeyId=other)

    refusal(lambda: signing.load_signer(tmp_path / "a.key").sign(b"x"), TrustError, alias, "another key")


def test_a_cloud_key_store_that_knows_no_such_key_or_does_not_answer(
    tmp_path: Path, kms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.key"
    refusal(lambda: signing.new_key_elsewhere(path, "awskms:alias/none"), InvalidInputError, "alias/none")
    signing.new_key_elsewhere(path, made(kms, f"gone-{tmp_path.name.lower()}"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    refusal(lambda: signing.load_signer(path).sign(b"x"), UnreachableError, "key store", "127.0.0.1:9")


@pytest.mark.parametrize("uri", ["gcpkms:projects/a/locations/b", "azurekms://a.vault.azure.net/keys/k/1"])
def test_a_key_store_whose_library_is_not_here_says_what_to_install(tmp_path: Path, uri: str) -> None:
    with contextlib.suppress(ImportError):
        importlib.import_module("google.cloud.kms" if uri.startswith("gcp") else "azure.keyvault.keys")
        pytest.skip("the library is here")
    refusal(lambda: signing.new_key_elsewhere(tmp_path / "a.key", uri), InvalidInputError, "pip install")


def test_a_private_file_on_another_disk_is_named_and_noticed_when_it_is_gone(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    key = signing.new_key(stick / "root.pem")
    path = tmp_path / "root.key"

    assert signing.new_key_elsewhere(path, f"file:{stick}/root.pem") == key

    assert signing.at_hand(path)
    proven(path)
    (stick / "root.pem").unlink()
    assert not signing.at_hand(path)
    assert signing.public_pem(path).startswith(b"-----BEGIN PUBLIC KEY")
    refusal(lambda: signing.load_signer(path), InvalidInputError, "stick/root.pem", "no file")
    signing.new_key(stick / "root.pem")
    refusal(lambda: signing.load_signer(path), InvalidInputError, key.keyid[:12])


@pytest.mark.parametrize("data", [b"{", b'{"schema":"changeover.key/1","uri":"hsm:2","public":"x","ext":{},"more":1}'])
def test_what_is_no_key_record_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.key").write_bytes(data)

    refusal(lambda: signing.load_signer(tmp_path / "a.key"), InvalidInputError, "a.key")


def test_a_record_that_leads_to_a_record_or_to_no_fixed_place_is_refused(tmp_path: Path) -> None:
    signing.new_key(tmp_path / "real.pem")
    signing.new_key_elsewhere(tmp_path / "one.key", f"file:{tmp_path}/real.pem")
    for uri, says in ((f"file:{tmp_path}/one.key", "elsewhere again"), ("file:real.pem", "happens to run")):
        with pytest.raises(InvalidInputError, match=says):
            signing.new_key_elsewhere(tmp_path / "two.key", uri, tmp_path / "one.pub")
        assert not (tmp_path / "two.key").exists()
    # Two records that lead to each other, or one that leads to itself, as nobody but an editor writes them.
    body = {"uri": f"file:{tmp_path}/one.key", "public": signing.public_pem(tmp_path / "real.pem").decode()}
    (tmp_path / "one.key").write_bytes(KeyRecord.parse(body, where="test").to_bytes())

    with pytest.raises(InvalidInputError, match="elsewhere again"):
        signing.load_signer(tmp_path / "one.key")


def test_at_hand_asks_files_alone(tmp_path: Path) -> None:
    signing.new_key(tmp_path / "a.pem")

    assert signing.at_hand(tmp_path / "a.pem")
    assert not signing.at_hand(tmp_path / "b.pem")
    assert not signing.at_hand(None)


@pytest.mark.usefixtures("token")
def test_a_vendor_publishes_with_keys_in_a_token_and_in_a_key_store(acme: Any, tmp_path: Path, kms: Any) -> None:
    """Root and targets in the token, releases and dates in the cloud: studios verify what they signed."""
    acme.publish(acme.make())
    alias = f"vendor-{tmp_path.name.lower()}"
    places = {
        "root": P256,
        "targets": "hsm:3?label=acme",
        "release": made(kms, alias),
        "online": made(kms, f"{alias}-o"),
    }
    for role in vendor_terms.ROLES:
        uri = places[role]
        signing.new_key_elsewhere(tmp_path / f"{role}.key", uri)
        vendor_keys.rotate(acme.folder, acme.keys, role, acme.now, new=tmp_path / f"{role}.key")

    acme.publish(acme.make(version="1.1.0", content=b"more"))
    acme.publish(acme.make("hair", content=b"hair"))
    vendor.renew(acme.folder, acme.keys, acme.now)

    assert b"PRIVATE" not in b"".join(getattr(acme.keys, role).read_bytes() for role in places)
    view = acme.view(tmp_path / "state")
    assert [entry.version for entry in view.indexes["person-roto"].releases] == ["1.0.0", "1.1.0"]


@pytest.mark.usefixtures("token")
def test_a_key_store_that_does_not_answer_leaves_the_repository_as_it_was(
    acme: Any, tmp_path: Path, kms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.publish(acme.make())
    signing.new_key_elsewhere(tmp_path / "release.key", made(kms, f"away-{tmp_path.name.lower()}"))
    vendor_keys.rotate(acme.folder, acme.keys, "release", acme.now, new=tmp_path / "release.key")
    before = {path: path.read_bytes() for path in acme.folder.rglob("*") if path.is_file()}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    refusal(lambda: acme.publish(acme.make(version="1.1.0", content=b"more")), UnreachableError, "127.0.0.1:9")

    assert {path: path.read_bytes() for path in acme.folder.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("token")
def test_a_token_that_is_not_here_keeps_the_dates_from_expiring_no_less(
    acme: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.publish(acme.make())
    signing.new_key_elsewhere(tmp_path / "root.key", P256)
    vendor_keys.rotate(acme.folder, acme.keys, "root", acme.now, new=tmp_path / "root.key")
    monkeypatch.delenv(pins.ENV_PIN)

    signed = vendor.renew(acme.folder, acme.keys, acme.now + timedelta(days=200))

    assert signed == ("targets", "person-roto", "snapshot", "timestamp")


@pytest.mark.usefixtures("token")
def test_a_promoter_signs_with_a_token_and_another_with_a_key_store(studio: Any, tmp_path: Path, kms: Any) -> None:
    """Both must sign; one alone is filed, as with keys in files."""
    ana, bob = tmp_path / "ana.key", tmp_path / "bob.key"
    new = enrolment.owned(signing.new_key_elsewhere(ana, P256), "ana")
    other = enrolment.owned(signing.new_key_elsewhere(bob, made(kms, f"bob-{tmp_path.name.lower()}")), "bob")
    entry = studio.choice("site", "two of us").entry
    keep = enrolment.Anew(lambda holds: holds.model_copy(update={"entry": entry}), (ana,))
    mine = signing.load_signer(studio.keys.promoter).public_key.keyid
    enrol = enrolment.Rekeying(promoters=(new, other), entry=entry)
    enrolment.rekey(studio.folder, studio.keys, "site", enrol, keep, studio.now)
    leave = enrolment.Rekeying(revoked=frozenset({mine}), threshold=2, entry=entry)
    keys = replace(studio.keys, promoter=ana)
    enrolment.rekey(studio.folder, keys, "site", leave, replace(keep, co_signers=(bob,)), studio.now)
    number = studio.read(tmp_path / "state")["site"].number

    alone = choice.write(studio.folder, keys, "site", lambda _: studio.choice("site", "one"), studio.now)
    assert (alone.chosen, studio.read(tmp_path / "state")["site"].number) == (False, number)
    pending.discard(studio.folder, alone.entry or "")
    both = choice.write(
        studio.folder, keys, "site", lambda _: studio.choice("site", "both"), studio.now, co_signers=(bob,)
    )

    assert both.chosen
    assert studio.read(tmp_path / "state")["site"].entry.what == "both"
