"""A key whose private part is elsewhere: in a token, with a cloud's key store, or in a file on another disk."""

from typing import ClassVar

from pydantic import Field

from changeover_registry.records.base import Record, Text

__all__ = ["KeyRecord"]


class KeyRecord(Record):
    """What stands in a private key's place: `uri` says where the private part is, `public` is the other part (PEM).

    With the public part at hand nothing is asked to list its keys, and every signature is verified as it is made.
    Nothing in it is secret.
    """

    NAME: ClassVar[str] = "key"

    uri: Text = Field(pattern=r"^(file|hsm|awskms|gcpkms|azurekms):[^\s]*$")
    public: Text
