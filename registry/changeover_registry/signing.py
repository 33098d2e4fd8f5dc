"""Keys, and envelopes that carry a signed record: Ed25519 in PKCS#8 files, DSSE around canonical JSON.

A key is one private PEM file, mode 0600, written once and never over another; or, in its place, a record that names
where the private part is (`key_uris`), with the public part beside it. An envelope holds one payload of one kind and
the signatures over both; `open_envelope` answers with the payload and the enrolled key that signed it, or refuses. Left
out: who may sign what. Vendors' and promoters' roles stand in TUF metadata (`repository`), the keys that may sign
verdicts in the site's choice.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from changeover_registry import canonical
from changeover_registry._fs import fsync_dir, make_dirs, write_new
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError
from changeover_registry.records.choice import VerdictKey
from changeover_registry.records.key import KeyRecord

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import Key, Signer

__all__ = [
    "at_hand",
    "ensure_folder",
    "ensure_key",
    "key_record",
    "load_signer",
    "new_key",
    "new_key_elsewhere",
    "open_envelope",
    "public_key",
    "public_pem",
    "read_public_key",
    "sign_envelope",
    "uri_of",
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
    ensure_folder(path.parent)
    return public_key(load_signer(path)) if path.exists() else new_key(path)


def ensure_folder(folder: Path) -> None:
    """Make a folder for keys, mode 0700, if it is not there.

    Raises:
        OSError: It cannot be made.
    """
    make_dirs(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    fsync_dir(folder.parent)


def new_key_elsewhere(path: Path, uri: str, public: Path | None = None) -> "Key":
    """Write to `path` that the private key is where `uri` says; return the public part, which stands beside it.

    Args:
        path: The new file, to be named wherever a private key's file is.
        uri: Such as ``hsm:2?label=TOKEN``, ``awskms:alias/NAME`` or ``file:/mnt/stick/root.pem``.
        public: The public part's PEM file; without it the token or key store is asked, this once.

    Raises:
        FileExistsError: A file is there already; it is left as it is.
        InvalidInputError: The URI, the public file or the key is not as it must be.
        TrustError: The key store denies it.
        UnreachableError: Token or key store do not answer.
        OSError: The place cannot be written.
    """
    from changeover_registry import key_uris

    private = key_uris.file_of(uri)
    if private is not None:
        _check_private_file(private, path)
    if public is not None:
        read_public_key(public)
        pem = public.read_bytes()
    else:
        pem = public_pem(private) if private else key_uris.fetch_public(uri)
    record = KeyRecord.parse({"uri": uri, "public": pem.decode()}, where=str(path))
    write_new(path, record.to_bytes(), mode=_PRIVATE)
    return load_signer(path).public_key


def load_signer(path: Path) -> "Signer":
    """The private key at `path`, or the one elsewhere that the record at `path` names; that one is not asked yet.

    Raises:
        InvalidInputError: No file is there, or it is neither a private key in an unencrypted PKCS#8 PEM file nor a key
            record.
    """
    from securesystemslib.signer import CryptoSigner

    private = _read(path)
    if not isinstance(private, KeyRecord):
        return CryptoSigner(private)
    from changeover_registry import key_uris

    public = _public_of(private.public.encode(), path)
    file = key_uris.file_of(private.uri)
    if file is None:
        return key_uris.KeptElsewhere(private.uri, public, str(path))
    _check_private_file(file, path)
    signer = load_signer(file)
    if signer.public_key.keyid != public.keyid:
        raise _no_key(file, f"key {signer.public_key.keyid[:12]}, where {path} says {public.keyid[:12]}")
    return signer


def _check_private_file(file: Path, named_by: Path) -> None:
    """A record leads to a key, not to another record, or two of them would lead to each other."""
    if not file.is_absolute():
        raise _no_key(file, f"a path from where a command happens to run, in {named_by}")
    if file.is_file() and isinstance(_read(file), KeyRecord):
        raise _no_key(file, f"a record of a key that is elsewhere again, where {named_by} asks for the key itself")


def uri_of(path: Path) -> str | None:
    """Where the record at `path` says that the private key is; None where the key itself stands there.

    Raises:
        InvalidInputError: As `load_signer`.
    """
    private = _read(path)
    return private.uri if isinstance(private, KeyRecord) else None


def at_hand(path: Path | None) -> bool:
    """Whether a key can be used from here as far as files tell: its own is there, and the one that it names, if any."""
    if path is None or not path.is_file():
        return False
    with contextlib.suppress(InvalidInputError):
        private = _read(path)
        if isinstance(private, KeyRecord):
            from changeover_registry import key_uris

            file = key_uris.file_of(private.uri)
            return file is None or file.is_file()
    return True


def public_key(signer: "Signer") -> "Key":
    """The public part of `signer`, with its TUF key id."""
    return signer.public_key


def public_pem(path: Path) -> bytes:
    """The public part of the private key at `path`, as a PEM file that may be given away.

    Raises:
        InvalidInputError: As `load_signer`.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    private = _read(path)
    if isinstance(private, KeyRecord):
        _public_of(private.public.encode(), path)
        return private.public.encode()
    pem: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def read_public_key(path: Path) -> "Key":
    """The public key in the PEM file at `path`, with its TUF key id.

    Raises:
        InvalidInputError: No file is there, or it is no public key; a private one has no business on its way to others.
        OSError: The file cannot be read.
    """
    if not path.is_file():
        raise _no_public_key(path, "no file")
    with path.open("rb") as file:
        data = file.read(_LIMIT_BYTES)
    if b"PRIVATE KEY" in data:
        raise _no_public_key(path, "a private key")
    return _public_of(data, path)


def _public_of(data: bytes, path: Path) -> "Key":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        public: Any = load_pem_public_key(data)
        return SSlibKey.from_crypto(public)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_public_key(path, "a file that holds no such key") from error


def _read(path: Path) -> Any:  # noqa: ANN401 - cryptography has many kinds of private keys
    """What stands in a private key's place: the key, or the record of one that is elsewhere."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        data = path.read_bytes()
        if data.startswith(b"{"):
            return KeyRecord.from_bytes(data, where=str(path))
        return load_pem_private_key(data, None)
    except FileNotFoundError as error:
        raise _no_key(path, "no file") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "a file that holds no such key") from error


def verdict_key(signer: "Signer", owner: str) -> VerdictKey:
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
        remedy="bring the disk that holds it, or name its place under [keys] in vendor.toml or host.toml",
    )


def _distrust(rule: str, where: str, expected: str, actual: str) -> TrustError:
    return TrustError(
        rule,
        where=where,
        expected=expected,
        actual=actual,
        remedy="do not use this file; have it made and signed again",
    )
