"""Keys, and envelopes that carry a signed record: Ed25519 in PKCS#8 files, DSSE around canonical JSON.

A key is one private PEM file, mode 0600, written once and never over another. An envelope holds one payload of one kind
and the signatures over both; `open_envelope` answers with the payload and the enrolled key that signed it, or refuses.
Left out: who may sign what. Vendors' and promoters' roles stand in TUF metadata (`repository`), the keys that may sign
verdicts in the site's choice. Tokens and cloud key stores are left out too; a signer is whatever `load_signer` returns.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from changeover_registry import canonical
from changeover_registry._fs import fsync_dir, make_dirs, write_new
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError
from changeover_registry.records.choice import VerdictKey

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, Key, Signer

__all__ = [
    "ensure_key",
    "key_record",
    "load_signer",
    "new_key",
    "open_envelope",
    "public_key",
    "public_pem",
    "read_public_key",
    "sign_envelope",
    "verdict_key",
]

_PRIVATE = 0o600
_LIMIT_BYTES = 64 * 1024
"""What no public key's file is larger than."""


def new_key(path: Path) -> "Key":
    """Make an Ed25519 key, write its private part to `path` (PKCS#8 PEM, mode 0600), return its public part.

    Raises:
        FileExistsError: A file is there already; it is left as it is.
        OSError: The place cannot be written.
    """
    from securesystemslib.signer import CryptoSigner

    signer = CryptoSigner.generate_ed25519()
    write_new(path, signer.private_bytes, mode=_PRIVATE)
    return signer.public_key


def ensure_key(path: Path) -> "Key":
    """The public part of the key at `path`, which is made if nothing is there, with its folder (mode 0700).

    Raises:
        InvalidInputError: A file is there and is no private key.
    """
    make_dirs(path.parent.parent)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fsync_dir(path.parent.parent)
    return public_key(load_signer(path)) if path.exists() else new_key(path)


def load_signer(path: Path) -> "CryptoSigner":
    """Read the private key at `path`.

    Raises:
        InvalidInputError: No file is there, or it is no private key in an unencrypted PKCS#8 PEM file.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        private: Any = load_pem_private_key(path.read_bytes(), None)
        return CryptoSigner(private)
    except FileNotFoundError as error:
        raise _no_key(path, "no file") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "a file that holds no such key") from error


def public_key(signer: "CryptoSigner") -> "Key":
    """The public part of `signer`, with its TUF key id."""
    return signer.public_key


def public_pem(path: Path) -> bytes:
    """The public part of the private key at `path`, as a PEM file that may be given away.

    Raises:
        InvalidInputError: As `load_signer`.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    load_signer(path)
    private = load_pem_private_key(path.read_bytes(), None)
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_public_key(path: Path) -> "Key":
    """The public key in the PEM file at `path`, with its TUF key id.

    Raises:
        InvalidInputError: No file is there, or it is no public key; a private one has no business on its way to others.
        OSError: The file cannot be read.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    if not path.is_file():
        raise _no_public_key(path, "no file")
    with path.open("rb") as file:
        data = file.read(_LIMIT_BYTES)
    if b"PRIVATE KEY" in data:
        raise _no_public_key(path, "a private key")
    try:
        public: Any = load_pem_public_key(data)
        return SSlibKey.from_crypto(public)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_public_key(path, "a file that holds no such key") from error


def verdict_key(signer: "CryptoSigner", owner: str) -> VerdictKey:
    """The public part of `signer` as the record that the site's choice enrols."""
    return key_record(signer.public_key, owner)


def key_record(key: "Key", owner: str) -> VerdictKey:
    """A public key as the record that the site's choice enrols."""
    return VerdictKey(
        key_id=key.keyid, key_type=key.keytype, scheme=key.scheme, public=key.keyval["public"], owner=owner
    )


def sign_envelope(payload: bytes, kind: str, signer: "Signer") -> bytes:
    """Sign `payload` as a record of `kind` ("verdict") and return the envelope as canonical JSON.

    The same payload, kind and Ed25519 key always give the same bytes.
    """
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, _payload_type(kind), {})
    envelope.sign(signer)
    return canonical.dumps(envelope.to_dict())


def open_envelope(data: bytes, kind: str, keys: Sequence[VerdictKey], *, where: str) -> tuple[bytes, VerdictKey]:
    """The payload of an envelope and the enrolled key that signed it.

    Args:
        data: The stored envelope.
        kind: The kind of record that it must hold.
        keys: The enrolled keys; one signature by one of them is enough.
        where: The file that `data` came from, for the message.

    Raises:
        TrustError: It is no envelope of that kind, or no enrolled key signed exactly these bytes.
    """
    envelope = _parse(data, where)
    if envelope.payload_type != _payload_type(kind):
        raise _distrust("envelope's kind", where, _payload_type(kind), envelope.payload_type)
    return envelope.payload, _signed_by(envelope, keys, where)


def _payload_type(kind: str) -> str:
    return f"application/vnd.changeover.{kind}+json"


def _parse(data: bytes, where: str) -> "Envelope":
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError

    try:
        return Envelope.from_dict(canonical.loads(data, where=where))
    except (ChangeoverError, FormatError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _distrust("envelope", where, "a DSSE envelope in canonical JSON", "other bytes") from error


def _signed_by(envelope: "Envelope", keys: Sequence[VerdictKey], where: str) -> VerdictKey:
    from securesystemslib.exceptions import VerificationError

    for key in keys:
        try:
            envelope.verify([_library_key(key)], 1)
        except VerificationError:
            continue
        return key
    enrolled = ", ".join(f"{key.owner} ({key.key_id[:12]})" for key in keys) or "nobody (no key is enrolled)"
    signers = ", ".join(key_id[:12] for key_id in envelope.signatures) or "nobody"
    raise _distrust("signature", where, f"a valid signature by {enrolled}", f"one naming {signers}")


def _library_key(key: VerdictKey) -> "Key":
    from securesystemslib.signer import SSlibKey

    return SSlibKey(key.key_id, key.key_type, key.scheme, {"public": key.public})


def _no_public_key(path: Path, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "public key",
        where=str(path),
        expected="the public part of a key, in a PEM file",
        actual=actual,
        remedy="have its owner send NAME.pub, which changeover keys new NAME wrote beside the private key",
    )


def _no_key(path: Path, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "private key",
        where=str(path),
        expected="a private key in an unencrypted PKCS#8 PEM file",
        actual=actual,
        remedy="name the file that holds the key",
    )


def _distrust(rule: str, where: str, expected: str, actual: str) -> TrustError:
    return TrustError(
        rule,
        where=where,
        expected=expected,
        actual=actual,
        remedy="do not use this file; have it made and signed again",
    )
