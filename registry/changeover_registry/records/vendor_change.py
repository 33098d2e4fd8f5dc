"""A change of a vendor's repository that waits for signatures of several key holders."""

from typing import ClassVar

from pydantic import Field

from changeover_registry.records.base import Digest, Record, Text, Time, Value

__all__ = ["ChangedFile", "ChangedTarget", "VendorChange"]


class ChangedFile(Value):
    """One file of metadata as it will stand: its role, its text with the signatures so far, and who may sign it."""

    role: Text
    text: str
    signers: tuple[Digest, ...]


class ChangedTarget(Value):
    """One target that the metadata names: its path, and its text."""

    path: Text
    text: str


class VendorChange(Record):
    """What a key holder signs: all files of one change. Nothing in it is believed before its signatures are verified.

    It names no place and holds no secret, so that it can be sent to whoever has the next key.
    """

    NAME: ClassVar[str] = "vendor-change"

    what: Text
    when: Time
    files: tuple[ChangedFile, ...] = Field(min_length=1)
    targets: tuple[ChangedTarget, ...] = ()
