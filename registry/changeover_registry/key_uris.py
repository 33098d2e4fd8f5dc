"""Private keys that are elsewhere, by URI: ``file:``, ``hsm:``, ``awskms:``, ``gcpkms:``, ``azurekms:``.

securesystemslib's signers do the work, each with its own library (an extra of ours, or of securesystemslib), which is
loaded when something is signed. What they raise becomes one line of ours; what they answer is verified with the public
part that was enrolled, so that an alias which somebody pointed at another key signs nothing in silence.

A token asks for a PIN, which `pins` has. Left out: whose key it is and what it may sign.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer

from changeover_registry import pins
from changeover_registry._lean_imports import aws_signer
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError, UnreachableError

__all__ = ["ENV_MODULE", "SCHEMES", "KeptElsewhere", "fetch_public", "file_of"]

ENV_MODULE = "PYKCS11LIB"
"""The variable by which securesystemslib finds a token's PKCS#11 library."""
SCHEMES = ("file", "hsm", "awskms", "gcpkms", "azurekms")
_INSTALL = {
    "hsm": "pip install 'changeover[hsm]'",
    "awskms": "pip install 'changeover[s3]'",
    "gcpkms": "pip install 'securesystemslib[gcpkms]'",
    "azurekms": "pip install 'securesystemslib[azurekms]'",
}
_DENIED = frozenset({"AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException"})
_VAULT_PARTS = 2


class KeptElsewhere(Signer):
    """Signs with the private key that a URI names, and hands out what its public part verifies, else nothing.

    Making one asks nobody; `sign` does.

    Args:
        uri: Where the private key is.
        public: Its public part, as it is enrolled.
        where: The file that says so, for messages.
    """

    def __init__(self, uri: str, public: Key, where: str) -> None:
        self._uri, self._public, self._where = uri, public, where

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> "KeptElsewhere":
        """As securesystemslib makes signers; the secrets come from `pins`."""
        del secrets_handler
        return cls(priv_key_uri, public_key, priv_key_uri)

    @property
    def public_key(self) -> Key:
        """The public part."""
        return self._public

    def sign(self, payload: bytes) -> Signature:
        """The signature over `payload`, verified.

        Raises:
            InvalidInputError: A library, the token's module or the PIN is missing or wrong, or there is no such key.
            TrustError: The key store denies it, or another key signed.
            UnreachableError: Token or key store do not answer.
        """
        signature: Signature = _asked(self._uri, self._where, lambda: self._inner().sign(payload))
        try:
            self._public.verify_signature(signature, payload)
        except UnverifiedSignatureError as error:
            raise TrustError(
                "signing key",
                where=f"{self._where}: {self._uri}",
                expected=f"a signature by key {self._public.keyid[:12]}, whose public part stands there",
                actual="one by another key",
                remedy="find out who changed what the URI names; nothing was signed",
            ) from error
        return signature

    def _inner(self) -> Signer:
        _check_module(self._uri, self._where)
        if self._uri.startswith("awskms:"):
            aws_signer()
        return Signer.from_priv_key_uri(self._uri, self._public, pins.pin)


def fetch_public(uri: str) -> bytes:
    """Ask the token or the key store for the public part of a key, as PEM; once, when the key is taken into use.

    Raises:
        InvalidInputError: It is no such URI, a library is missing, or the key is of a kind that is not used.
        TrustError: The key store denies it.
        UnreachableError: It does not answer.
    """
    scheme = uri.partition(":")[0]
    if scheme not in SCHEMES[1:]:
        raise InvalidInputError(
            "key's URI",
            where=uri,
            expected=f"one that begins with {', '.join(f'{name}:' for name in SCHEMES)}",
            actual=f"{scheme}:",
            remedy="name where the private key is, such as hsm:2?label=TOKEN or awskms:alias/NAME",
        )
    _check_module(uri, uri)
    key: Any = _asked(uri, uri, lambda: _IMPORTS[scheme](uri))
    pem = str(key.keyval["public"]).encode()
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    public: Any = load_pem_public_key(pem)
    default = SSlibKey.from_crypto(public)
    if (default.keytype, default.scheme) != (key.keytype, key.scheme):
        raise InvalidInputError(
            "key",
            where=uri,
            expected=f"one that signs with {default.scheme}, as a public file of its kind says",
            actual=key.scheme,
            remedy="make an ECDSA key on the curve P-256 there",
        )
    return pem


def file_of(uri: str) -> Path | None:
    """The file that a ``file:`` URI names; None for every other one."""
    if not uri.startswith("file:"):
        return None
    from urllib.request import url2pathname

    return Path(url2pathname(urlsplit(uri).path))


def _import_hsm(uri: str) -> Key:
    from urllib.parse import parse_qsl

    from securesystemslib.signer import HSMSigner

    parts = urlsplit(uri)
    number = int(parts.path) if parts.path else None
    return HSMSigner.import_(number, dict(parse_qsl(parts.query)).get("label"), pins.pin)[1]


def _import_awskms(uri: str) -> Key:
    key: Key = aws_signer().import_(urlsplit(uri).path)[1]
    return key


def _import_gcpkms(uri: str) -> Key:
    from securesystemslib.signer import GCPSigner

    return GCPSigner.import_(urlsplit(uri).path)[1]


def _import_azurekms(uri: str) -> Key:
    from securesystemslib.signer import AzureSigner

    parts = urlsplit(uri)
    named = parts.path.strip("/").split("/")
    if len(named) < _VAULT_PARTS:
        message = "expected azurekms://VAULT.vault.azure.net/keys/NAME/VERSION"
        raise ValueError(message)
    return AzureSigner.import_((parts.hostname or "").partition(".")[0], named[1])[1]


_IMPORTS: dict[str, Callable[[str], Key]] = {
    "hsm": _import_hsm,
    "awskms": _import_awskms,
    "gcpkms": _import_gcpkms,
    "azurekms": _import_azurekms,
}


def _check_module(uri: str, where: str) -> None:
    if uri.startswith("hsm:") and not Path(os.environ.get(ENV_MODULE) or "-").is_file():
        raise InvalidInputError(
            "token's library",
            where=f"{where}: {ENV_MODULE}",
            expected="the path of the token's PKCS#11 library",
            actual=os.environ.get(ENV_MODULE) or "none named",
            remedy=f"set it, such as {ENV_MODULE}=/usr/lib/softhsm/libsofthsm2.so or .../libykcs11.so",
        )


def _asked(uri: str, where: str, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - a key or a signature
    try:
        return ask()
    except ChangeoverError:
        raise
    except Exception as error:  # noqa: BLE001 - each signer raises what its store's library does
        pins.forget()
        _fail(uri, where, error)


def _fail(uri: str, where: str, error: Exception) -> NoReturn:
    """One line for what a signer's library raised; they share no root, so that their names are asked."""
    scheme, kind = uri.partition(":")[0], type(error).__name__
    said = {"where": where if where == uri else f"{where}: {uri}", "actual": str(error) or kind}
    code = _code(error)
    if kind == "UnsupportedLibraryError":
        remedy = f"install it where changeover runs: {_INSTALL[scheme]}"
        raise InvalidInputError(
            "key's library", expected=f"the library for {scheme}:", remedy=remedy, **said
        ) from error
    if kind in {"PinIncorrect", "PinLenRange", "PinInvalid"}:
        said["actual"] = "another one; a token locks itself after a few"
        raise InvalidInputError(
            "token's PIN", expected="the token's PIN", remedy=f"correct {pins.ENV_PIN}, or type it again", **said
        ) from error
    if kind == "PinLocked":
        said["actual"] = "a token that locked itself after wrong PINs"
        raise TrustError(
            "token's PIN", expected="a token that takes a PIN", remedy="unlock it with its own tool", **said
        ) from error
    if kind in {"NoCredentialsError", "DefaultCredentialsError", "ClientAuthenticationError"} or code in _DENIED:
        remedy = "give this account the right to sign with that key, and its credentials to this command"
        raise TrustError("key store", expected="credentials that may use the key", remedy=remedy, **said) from error
    if code.endswith("NotFoundException") or (isinstance(error, ValueError) and "No PKCS#11 token" not in str(error)):
        remedy = "correct the URI; see the keys with the token's or the store's own tool"
        raise InvalidInputError(
            "key's URI", expected="a key that is there and may sign", remedy=remedy, **said
        ) from error
    raise UnreachableError(
        "key store",
        expected="an answer of the token or the key store",
        remedy="plug the token in, or check the network, region and endpoint; then run the command again",
        **said,
    ) from error


def _code(error: Exception) -> str:
    """What a cloud calls its refusal; empty for every other error."""
    response = getattr(error, "response", None)
    found = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return str(found)
