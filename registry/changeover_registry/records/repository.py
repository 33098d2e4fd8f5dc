"""The vendor's repository records: ``<name>/index.json`` and ``vendor.json``; and the studio's trust entry."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from changeover_registry.records.base import Digest, Name, Record, Text, Time, Value, VersionText

__all__ = ["Document", "Index", "IndexEntry", "TrustEntry", "VendorCard", "Withdrawal"]


class Withdrawal(Value):
    """Why and when a vendor took a release back."""

    why: Text
    when: Time


class Document(Value):
    """A small file beside a release, such as its bill of materials: file name, digest, and length in bytes."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    sha256: Digest
    length: int = Field(gt=0, le=16 * 1024 * 1024)


class IndexEntry(Value):
    """One published release: version, and digest and length in bytes of its ``release.json``.

    `documents` lie beside the release and are no part of its digest; the role that signs the index signs them.
    """

    version: VersionText
    record: Digest
    length: int = Field(gt=0)
    withdrawn: Withdrawal | None = None
    documents: tuple[Document, ...] | None = None

    @model_validator(mode="after")
    def _documents_are_distinct(self) -> Self:
        names = [document.name for document in self.documents or ()]
        if len(set(names)) != len(names):
            message = f"expected each document once, found {names}"
            raise ValueError(message)
        return self


class Index(Record):
    """``<name>/index.json``: every release of one model."""

    NAME: ClassVar[str] = "index"

    vendor: Name
    name: Name
    releases: tuple[IndexEntry, ...] = ()

    @model_validator(mode="after")
    def _versions_are_distinct(self) -> Self:
        versions = [entry.version for entry in self.releases]
        if len(set(versions)) != len(versions):
            message = f"expected each version once, found {versions}"
            raise ValueError(message)
        return self

    def entry(self, version: str) -> IndexEntry | None:
        """The entry of `version`, if it is published."""
        return next((entry for entry in self.releases if entry.version == version), None)


class VendorCard(Record):
    """``vendor.json``: a vendor's models."""

    NAME: ClassVar[str] = "vendor"

    vendor: Name
    models: tuple[Name, ...] = ()


class TrustEntry(Record):
    """``trust/<vendor>/entry.json``: where a vendor's repository is and what the studio lets it do.

    `models` are those that the studio follows; absent means all, also those that the vendor adds later. `local` marks
    the studio's own vendor, whose keys are the studio's: it alone may say of a release that the studio adopted it. A
    location that begins with ``site:`` lies below the site's root, wherever a host has that. `model_signing` is a
    public key in PEM that the vendor gave in person: every release must have an OpenSSF signature by it.
    """

    NAME: ClassVar[str] = "trust"

    vendor: Name
    location: Text
    root: Digest
    allow_executable: bool = False
    added_by: Text
    added_at: Time
    models: tuple[Name, ...] | None = Field(default=None, min_length=1)
    mirrors: tuple[Text, ...] | None = None
    local: bool | None = None
    model_signing: Text | None = None

    def locations(self) -> tuple[str, ...]:
        """Every place of the repository, in the order in which they are asked."""
        return (self.location, *(self.mirrors or ()))
