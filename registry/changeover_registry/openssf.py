"""OpenSSF model signing beside a release: a signature over its files that other tools than this one can verify.

The official library signs, with an elliptic curve key of the vendor's; it comes with the extra ``signing``. Verifying
takes nothing but the base install, and no model file: the signature lists every file by its digest, and so does the
release record, which the vendor's repository signs. Both must list the same files. A model folder in the store, or one
that was laid out the same way, verifies with the official tool too.

Rules for a signature that is there: one signature, by the key that the studio was given in person or else by the one
that lies beside it, over an in-toto statement of whole files by sha256, of exactly the files of the release. Left out:
signatures by certificates, by Sigstore's public service, and by shards of files.
"""

import base64
import binascii
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from changeover_registry.errors import InvalidInputError, TrustError, UndecidedError
from changeover_registry.records.release import Release

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

__all__ = ["PUBLIC_KEY", "SIGNATURE", "SignatureError", "check_signature", "read_public_pem", "sign_release"]

SIGNATURE = "model.sig"
"""The name of the signature beside ``release.json``."""
PUBLIC_KEY = "model.sig.pub"
"""The name of the public key beside it."""

_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_KEY_LIMIT_BYTES = 64 * 1024


class SignatureError(TrustError):
    """A release's signature does not hold, or there must be one and there is none; its metadata may be in order."""


def sign_release(release: Release, files: Mapping[str, Path], key: Path, scratch: Path) -> dict[str, bytes]:
    """Sign the files of a release; the documents that lie beside it then, by name: signature and public key.

    Args:
        release: The release.
        files: Where each file is, by ``<variant>/<path>``. All are read once more.
        key: The private key: P-256, P-384 or P-521 in an unencrypted PEM file.
        scratch: An empty folder to lay the files out in; by second names of them where it is on their disk.

    Raises:
        InvalidInputError: `key` is no such key.
        SignatureError: A file has other bytes than the release says.
        UndecidedError: The official library is not installed.
        OSError: The folder cannot be written.
    """
    public = _public_part(key)
    try:
        from model_signing import signing as official
    except ImportError as error:
        raise _not_installed(error) from error
    config: Any = official.Config
    folder, signature = scratch / release.model.partition("/")[2], scratch / SIGNATURE
    for path, source in files.items():
        _lay_out(source, folder / path)
    config().use_elliptic_key_signer(private_key=key).sign(folder, signature)
    made = {PUBLIC_KEY: public, SIGNATURE: signature.read_bytes()}
    check_signature(made, release, where=f"{release.model} {release.version}")
    return made


def check_signature(
    documents: Mapping[str, bytes], release: Release, *, where: str, pinned: str | None = None
) -> str | None:
    """Verify the signature among the documents of a release, without its files.

    Args:
        documents: The documents by name, as the index pins them.
        release: The release, as the index pins it.
        where: For messages.
        pinned: The PEM of the key that the studio was given in person; then there must be a signature, by that key.

    Returns:
        The sha256 of the key (DER) that signed it; None where there is no signature.

    Raises:
        SignatureError: It is not valid, by another key, or of other files.
    """
    if SIGNATURE not in documents:
        if pinned is None:
            return None
        raise _distrust(where, "an OpenSSF signature by the key that was pinned for this vendor", "none")
    public = pinned.encode() if pinned is not None else documents.get(PUBLIC_KEY)
    if public is None:
        raise _distrust(where, f"the public key beside the signature ({PUBLIC_KEY})", "none")
    key = _load_public(public, where)
    found = _listed(_verified_payload(documents[SIGNATURE], key, where), where)
    expected = {f"{variant.id}/{file.path}": file.sha256 for variant in release.variants for file in variant.files}
    if found != expected:
        name = min(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise _distrust(
            f"{where}: {name}", _digest_or_none(expected.get(name)), f"{_digest_or_none(found.get(name))} in it"
        )
    return _key_digest(key)


def read_public_pem(path: Path) -> str:
    """The public key in a PEM file, as the text that a trust entry pins.

    Raises:
        InvalidInputError: No file is there, or it is no elliptic curve's public key.
        OSError: The file cannot be read.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if not path.is_file():
        raise _no_key(path, "a public key", "no file")
    with path.open("rb") as file:
        data = file.read(_KEY_LIMIT_BYTES)
    if b"PRIVATE KEY" in data:
        raise _no_key(path, "the public part of a key", "a private key")
    try:
        key = _load_public(data, str(path))
    except SignatureError as error:
        raise _no_key(path, error.expected, error.actual) from error
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def _public_part(path: Path) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    expected = "an unencrypted private key on the curve P-256, P-384 or P-521, in a PEM file"
    try:
        private = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError as error:
        raise _no_key(path, expected, "no file") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, expected, "a file that holds no such key") from error
    if not isinstance(private, EllipticCurvePrivateKey) or private.curve.name not in _CURVES:
        raise _no_key(path, expected, "a key of another kind")
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _lay_out(source: Path, target: Path) -> None:
    """A second name of a file, or a copy where the disk has none; the library refuses symbolic links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _verified_payload(signature: bytes, key: "EllipticCurvePublicKey", where: str) -> bytes:
    """What the one signature of a bundle was made over."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from securesystemslib.dsse import Envelope

    try:
        bundle: Any = json.loads(signature)
        envelope = bundle["dsseEnvelope"]
        kinds = (bundle["mediaType"], envelope["payloadType"])
        (one,) = envelope["signatures"]
        payload, sig = (base64.b64decode(text, validate=True) for text in (envelope["payload"], one["sig"]))
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise _distrust(where, "a Sigstore bundle with one DSSE signature", "something else") from error
    if kinds != (_BUNDLE, _PAYLOAD):
        raise _distrust(where, f"{_BUNDLE} around {_PAYLOAD}", " around ".join(map(str, kinds)))
    try:
        digest = getattr(hashes, _CURVES[key.curve.name])()
        key.verify(sig, Envelope(payload, _PAYLOAD, {}).pae(), ECDSA(digest))
    except InvalidSignature as error:
        expected = f"a signature by the key with sha256 {_key_digest(key)}"
        raise _distrust(where, expected, "one that this key did not make") from error
    return payload


def _listed(payload: bytes, where: str) -> dict[str, str]:
    """The files that a verified statement lists, by name, with their sha256."""
    try:
        statement: Any = json.loads(payload)
        kinds = (statement["_type"], statement["predicateType"])
        (subject,) = statement["subject"]
        predicate = statement["predicate"]
        how = (predicate["serialization"]["method"], predicate["serialization"]["hash_type"])
        items = [
            (_word(item["name"]), _word(item["algorithm"]), bytes.fromhex(item["digest"]))
            for item in predicate["resources"]
        ]
        root = subject["digest"]["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _distrust(where, "an in-toto statement of model files", "something else") from error
    if kinds != (_STATEMENT, _PREDICATE) or how != ("files", "sha256") or {kind for _, kind, _ in items} - {"sha256"}:
        actual = f"{' of '.join(map(str, kinds))}, {' by '.join(map(str, how))}"
        raise _distrust(where, f"{_STATEMENT} of {_PREDICATE}, files by sha256", actual)
    names = [name for name, _, _ in items]
    if len(set(names)) != len(names) or hashlib.sha256(b"".join(digest for *_, digest in items)).hexdigest() != root:
        raise _distrust(where, "each file once, and the digest of all of them", "a list that contradicts itself")
    return {name: digest.hex() for name, _, digest in items}


def _word(value: object) -> str:
    if not isinstance(value, str):
        message = f"expected text, found {value!r}"
        raise TypeError(message)
    return value


def _load_public(data: bytes, where: str) -> "EllipticCurvePublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    expected = "a public key on the curve P-256, P-384 or P-521, in PEM"
    try:
        key = load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _distrust(where, expected, "no such key") from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise _distrust(where, expected, "a key of another kind")
    return key


def _key_digest(key: "EllipticCurvePublicKey") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _digest_or_none(digest: str | None) -> str:
    return f"sha256 {digest}" if digest else "no such file"


def _distrust(where: str, expected: str, actual: str) -> SignatureError:
    return SignatureError(
        "OpenSSF signature",
        where=where,
        expected=expected,
        actual=actual,
        remedy="do not use this release; ask the vendor who signed it and with which key",
    )


def _no_key(path: Path, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "OpenSSF key",
        where=str(path),
        expected=expected,
        actual=actual,
        remedy="make one with: openssl ecparam -name prime256v1 -genkey -noout -out model.pem; "
        "openssl ec -in model.pem -pubout -out model.pub",
    )


def _not_installed(error: ImportError) -> UndecidedError:
    return UndecidedError(
        "OpenSSF signature",
        where=SIGNATURE,
        expected="the package model-signing in this environment",
        actual=str(error),
        remedy="install it with: pip install 'changeover[signing]'",
    )
