import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.openssf import PUBLIC_KEY, SIGNATURE, check_signature, read_public_pem, sign_release
from changeover_registry.records.release import Release

verifying = pytest.importorskip("model_signing.verifying", reason="the extra signing is not installed")

Vendor = Any
WEIGHTS = b"weights " * 1000


def write_key(
    path: Path, curve: ec.EllipticCurve | None = None, encryption: KeySerializationEncryption | None = None
) -> Path:
    private = ec.generate_private_key(curve or ec.SECP256R1())
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(pem)
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_key(tmp_path_factory.mktemp("keys") / "model.pem")


@pytest.fixture
def made(acme: Vendor) -> tuple[Release, dict[str, Path]]:
    """A release of one file, and where the file is."""
    found = acme.make(content=WEIGHTS)
    (source,) = found.files.values()
    return found.record, {"onnx-fp32/model.onnx": source}


@pytest.fixture
def signed(made: tuple[Release, dict[str, Path]], key: Path, tmp_path: Path) -> dict[str, bytes]:
    (tmp_path / "scratch").mkdir()
    return sign_release(*made, key, tmp_path / "scratch")


@pytest.fixture
def resigned(signed: dict[str, bytes], key: Path) -> Callable[..., bytes]:
    """Signs another statement with the vendor's own key: what nobody else can, and the official tool would not."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.dsse import Envelope

    private = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)

    def resign(change: Callable[[Any], object]) -> bytes:
        bundle = json.loads(signed[SIGNATURE])
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        change(statement)
        payload = json.dumps(statement).encode()
        made = private.sign(Envelope(payload, "application/vnd.in-toto+json", {}).pae(), ec.ECDSA(hashes.SHA256()))
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(made).decode()
        return json.dumps(bundle).encode()

    return resign


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_is_signed_verifies_here_and_with_the_official_library(
    made: tuple[Release, dict[str, Path]], tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    own = write_key(tmp_path / "own.pem", curve)
    (tmp_path / "scratch").mkdir()
    documents = sign_release(*made, own, tmp_path / "scratch")
    assert check_signature(documents, made[0], where="a release") is not None

    model = tmp_path / "store" / "onnx-fp32"
    model.mkdir(parents=True)
    (model / "model.onnx").write_bytes(WEIGHTS)
    for name, data in documents.items():
        (tmp_path / name).write_bytes(data)
    official: Any = verifying.Config
    official().use_elliptic_key_verifier(public_key=tmp_path / PUBLIC_KEY).verify(model.parent, tmp_path / SIGNATURE)
    (model / "model.onnx").write_bytes(WEIGHTS.upper())
    with pytest.raises(ValueError, match=r"model\.onnx"):
        official().use_elliptic_key_verifier(public_key=tmp_path / PUBLIC_KEY).verify(
            model.parent, tmp_path / SIGNATURE
        )


def test_files_of_the_vendor_stay_as_they_are(made: tuple[Release, dict[str, Path]], signed: dict[str, bytes]) -> None:
    (source,) = made[1].values()
    assert source.read_bytes() == WEIGHTS
    assert not source.is_symlink()


def test_a_signature_by_the_pinned_key_is_good_whatever_lies_beside_it(
    made: tuple[Release, dict[str, Path]], signed: dict[str, bytes], key: Path
) -> None:
    pinned = read_public_pem(key.with_suffix(".pub"))
    assert check_signature({SIGNATURE: signed[SIGNATURE]}, made[0], where="a release", pinned=pinned)


def test_a_signature_by_another_key_than_the_pinned_one_is_refused(
    made: tuple[Release, dict[str, Path]], signed: dict[str, bytes], tmp_path: Path
) -> None:
    other = read_public_pem(write_key(tmp_path / "other.pem").with_suffix(".pub"))
    with pytest.raises(TrustError, match="one that this key did not make"):
        check_signature(signed, made[0], where="a release", pinned=other)


def test_without_a_signature_there_is_nothing_to_verify_unless_a_key_is_pinned(
    made: tuple[Release, dict[str, Path]], key: Path
) -> None:
    assert check_signature({}, made[0], where="a release") is None
    with pytest.raises(TrustError, match="none"):
        check_signature({}, made[0], where="a release", pinned=read_public_pem(key.with_suffix(".pub")))


def test_a_signature_without_its_key_is_refused(
    made: tuple[Release, dict[str, Path]], signed: dict[str, bytes]
) -> None:
    with pytest.raises(TrustError, match=PUBLIC_KEY):
        check_signature({SIGNATURE: signed[SIGNATURE]}, made[0], where="a release")


def test_a_signature_over_other_files_is_refused_naming_the_file(acme: Vendor, signed: dict[str, bytes]) -> None:
    with pytest.raises(TrustError) as caught:
        check_signature(signed, acme.make(content=b"other").record, where="a release")
    assert caught.value.where == "a release: onnx-fp32/model.onnx"
    assert hashlib.sha256(b"other").hexdigest() in caught.value.expected
    assert hashlib.sha256(WEIGHTS).hexdigest() in caught.value.actual


def test_files_that_are_not_those_of_the_release_are_not_signed(
    made: tuple[Release, dict[str, Path]], key: Path, tmp_path: Path
) -> None:
    (tmp_path / "changed").write_bytes(b"changed")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(TrustError, match="OpenSSF signature"):
        sign_release(made[0], {"onnx-fp32/model.onnx": tmp_path / "changed"}, key, tmp_path / "scratch")


def drop_file(statement: Any) -> None:
    statement["predicate"]["resources"] = []
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(b"").hexdigest()


def add_file(statement: Any) -> None:
    resources = statement["predicate"]["resources"]
    resources.append({"name": "onnx-fp32/more", "algorithm": "sha256", "digest": "00" * 32})
    digests = b"".join(bytes.fromhex(item["digest"]) for item in resources)
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(digests).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        drop_file,
        add_file,
        lambda statement: statement.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda statement: statement.update(predicateType="https://model_signing/Digests/v0.1"),
        lambda statement: statement["subject"].append(statement["subject"][0]),
        lambda statement: statement["subject"][0]["digest"].update(sha256="00" * 32),
        lambda statement: statement["predicate"]["serialization"].update(hash_type="blake3"),
        lambda statement: statement["predicate"]["serialization"].update(method="shards"),
        lambda statement: statement["predicate"]["resources"][0].update(algorithm="blake2"),
        lambda statement: statement["predicate"]["resources"][0].update(algorithm=[]),
        lambda statement: statement["predicate"]["resources"][0].update(name=["onnx-fp32/model.onnx"]),
        lambda statement: statement["predicate"]["resources"][0].update(digest="no hex"),
        lambda statement: statement["predicate"]["resources"].append(statement["predicate"]["resources"][0]),
        lambda statement: statement.pop("predicate"),
    ],
)
def test_a_statement_that_is_signed_and_not_of_these_files_is_refused(
    made: tuple[Release, dict[str, Path]],
    signed: dict[str, bytes],
    resigned: Callable[..., bytes],
    change: Callable[[Any], object],
) -> None:
    documents = {**signed, SIGNATURE: resigned(lambda _: None)}
    assert check_signature(documents, made[0], where="a release") is not None
    with pytest.raises(TrustError, match="OpenSSF signature"):
        check_signature({**signed, SIGNATURE: resigned(change)}, made[0], where="a release")


def with_payload(bundle: Any) -> None:
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(b"{}").decode()


@pytest.mark.parametrize(
    "change",
    [
        with_payload,
        lambda bundle: bundle.update(mediaType="application/json"),
        lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
        lambda bundle: bundle["dsseEnvelope"].update(signatures=[]),
        lambda bundle: bundle["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}),
        lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig="not base64!"),
        lambda bundle: bundle.pop("dsseEnvelope"),
    ],
)
def test_a_bundle_that_was_altered_is_refused(
    made: tuple[Release, dict[str, Path]], signed: dict[str, bytes], change: Callable[[Any], object]
) -> None:
    bundle = json.loads(signed[SIGNATURE])
    change(bundle)
    with pytest.raises(TrustError, match="OpenSSF signature"):
        check_signature({**signed, SIGNATURE: json.dumps(bundle).encode()}, made[0], where="a release")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"dsseEnvelope": 3}'])
def test_what_is_no_bundle_is_refused(
    made: tuple[Release, dict[str, Path]], signed: dict[str, bytes], data: bytes
) -> None:
    with pytest.raises(TrustError, match="OpenSSF signature"):
        check_signature({**signed, SIGNATURE: data}, made[0], where="a release")


def of_another_kind(path: Path) -> Path:
    private = ed25519.Ed25519PrivateKey.generate()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path,
        lambda path: path.write_bytes(b"no key") and path,
        lambda path: write_key(path, ec.SECP256K1()),
        lambda path: write_key(path, encryption=BestAvailableEncryption(b"secret")),
        of_another_kind,
    ],
    ids=["none", "other bytes", "another curve", "encrypted", "Ed25519"],
)
def test_a_key_that_cannot_sign_is_named(
    made: tuple[Release, dict[str, Path]], tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    key = make(tmp_path / "key.pem")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(InvalidInputError, match=r"key\.pem.*P-256"):
        sign_release(*made, key, tmp_path / "scratch")


@pytest.mark.parametrize("name", ["model.pem", "gone.pub"])
def test_only_a_public_key_is_pinned(key: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="OpenSSF key"):
        read_public_pem(key.with_name(name))


def test_a_public_key_of_another_kind_is_not_pinned(tmp_path: Path) -> None:
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    (tmp_path / "own.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(InvalidInputError, match="another kind"):
        read_public_pem(tmp_path / "own.pub")


def test_without_the_library_the_line_names_the_extra(
    made: tuple[Release, dict[str, Path]], key: Path, tmp_path: Path
) -> None:
    (tmp_path / "release.json").write_bytes(made[0].to_bytes())
    program = (
        "import sys; sys.modules['model_signing'] = None\n"
        "from pathlib import Path\n"
        "from changeover_registry.errors import UndecidedError\n"
        "from changeover_registry.openssf import sign_release\n"
        "from changeover_registry.records.release import Release\n"
        "release = Release.from_bytes(Path(sys.argv[1]).read_bytes(), where='release.json')\n"
        "try:\n    sign_release(release, {}, Path(sys.argv[2]), Path(sys.argv[3]))\n"
        "except UndecidedError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "release.json"), str(key), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "changeover[signing]" in ended.stdout
