"""Search the releases that the studio knows by typed fields: what fits a card, a Nuke and a licence list.

Which releases there are is what the vendors' signed indexes say at this moment; the index in the site spares reading
ten thousand records. What is found decides nothing. Left out: what is shown of it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from changeover_registry.names import Version
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, NukeInstall
from changeover_registry.records.release import ReleaseRef
from changeover_updater.search_index import Listed, Step, read_index
from changeover_updater.search_query import Asked, Found, Judge, has_words
from changeover_updater.search_terms import Terms
from changeover_updater.site import Site
from changeover_updater.studio import Studio

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Result", "found_object", "host_of_terms", "nuke_of_terms", "search", "with_nuke"]


@dataclass(frozen=True, slots=True)
class Result:
    """A found release, the channels that point at it, and why its vendor withdrew it, if it did."""

    found: Found
    channels: tuple[str, ...]
    withdrawn: str | None


def search(
    site: Site,
    studio: Studio,
    words: tuple[str, ...],
    asked: Asked,
    *,
    with_withdrawn: bool = False,
    step: Step = lambda _what, _count: None,
) -> tuple[Result, ...]:
    """Every release that answers, what fits before what nobody knows of, by model, the newest version first.

    Args:
        site: The site.
        studio: Its verified indexes, choice and policy; of records nothing is taken from it.
        words: All of which a release must have.
        asked: What it must be, and under which policy.
        with_withdrawn: Whether releases that were taken back are found too.
        step: Told how far the index is that has to be completed.
    """
    entries = {
        str(ReleaseRef(model=f"{index.vendor}/{index.name}", version=entry.version, digest=entry.record)): entry
        for vendor in studio.vendors
        for index in vendor.indexes
        for entry in index.releases
    }
    vendors = {key: site.vendor_of(key.partition("@")[0]) for key in _first_of_each_vendor(entries)}
    folders = {folder.vendor: folder for folder in vendors.values()}
    listed = [
        Listed(entry.record, folders[key.partition("/")[0]].record_path(entry.record)) for key, entry in entries.items()
    ]
    index = read_index(site, listed, studio.verdict_keys(), step)
    judge = Judge(asked, index.needs, index.memory(key.key_id for key in studio.verdict_keys()))
    channels, results = _channels(studio), []
    for entry in entries.values():
        row = index.rows.get(entry.record)
        withdrawn = entry.withdrawn.why if entry.withdrawn else None
        if row is None or (withdrawn and not with_withdrawn):
            continue
        pointing = channels.get(entry.record, ())
        found = judge.judge(row) if has_words(row, words, pointing) else None
        if found is not None:
            results.append(Result(found, pointing, withdrawn))
    results.sort(key=lambda one: Version.parse(one.found.row.version), reverse=True)
    return tuple(sorted(results, key=lambda one: (one.found.fit != "fits", one.found.row.model)))


def host_of_terms(terms: Terms) -> HostFacts | None:
    """A shipped host with the card that the terms name; in it the Nuke that they name, if they do.

    Raises:
        InvalidInputError: No shipped host has such a card, or its name says several.
    """
    from changeover_updater.fits import host_of_gpu

    if terms.gpu is None:
        return None
    return with_nuke(host_of_gpu(terms.gpu, "--fits gpu"), terms)


def with_nuke(facts: HostFacts, terms: Terms) -> HostFacts:
    """A host in which just the Nuke of the terms is installed, if they name one."""
    nuke = nuke_of_terms(terms)
    return facts if nuke is None else facts.model_copy(update={"nukes": (nuke,)})


def nuke_of_terms(terms: Terms) -> NukeInstall | None:
    """The Nuke that the terms name, with the torch that the tables say it embeds."""
    from changeover_validators import tables

    if terms.nuke is None:
        return None
    line = tables.nuke_torch_line(terms.nuke.partition("v")[0])
    unknown = Unknown(unknown=f"the tables do not say which torch Nuke {terms.nuke} embeds")
    return NukeInstall(version=terms.nuke, torch_line=line or unknown)


def found_object(result: Result) -> "Mapping[str, Any]":
    """A result for ``--json``."""
    found, row = result.found, result.found.row
    return {
        "model": row.model,
        "version": row.version,
        "digest": row.digest,
        "summary": row.summary,
        "licence": {"code": row.code, "weights": row.weights, "training_data": row.training_data},
        "adopted": row.adopted,
        "withdrawn": result.withdrawn,
        "channels": list(result.channels),
        "fit": found.fit,
        "why": found.why or None,
        "variant": found.variant,
        "provider": found.provider,
        "tile": list(found.tile) if found.tile else None,
        "memory_bytes": found.memory,
        "memory_said_by": found.said_by or None,
        "variants": [
            {
                "id": one.id,
                "runtime": one.runtime,
                "precision": one.precision,
                "loaders": list(one.loaders),
                "bytes": one.size,
            }
            for one in row.variants
        ],
    }


def _first_of_each_vendor(keys: "Mapping[str, object]") -> tuple[str, ...]:
    return tuple({key.partition("/")[0]: key for key in keys}.values())


def _channels(studio: Studio) -> dict[str, tuple[str, ...]]:
    """The channels that point at a release, by its digest."""
    found: dict[str, tuple[str, ...]] = {}
    for choice in studio.choices:
        for pointer in choice.channels:
            found[pointer.release.digest] = (*found.get(pointer.release.digest, ()), pointer.channel)
    return found
