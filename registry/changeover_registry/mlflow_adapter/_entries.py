"""Releases as versions of MLflow's registered models: found, made visible, and settled where two were at once.

Of two versions with one release number the lower MLflow number counts; readers ignore the other, and whoever made it
takes it away again. Nothing in MLflow is believed: a version without our tags, or with tags that are no digest and no
version, is no release. Left out: what a version points at (`_holders`).
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from changeover_registry.errors import ChangeoverError, LostRaceError, RefusedError
from changeover_registry.mlflow_adapter._errors import too_many
from changeover_registry.mlflow_adapter.page import Page, Side, is_ours, withdrawn_page
from changeover_registry.mlflow_adapter.view import model_of, registered_name, release_tags
from changeover_registry.names import Version, check_digest, digest12
from changeover_registry.records.release import Release

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

__all__ = [
    "MOST_VERSIONS",
    "Registered",
    "Registration",
    "check_room",
    "describe",
    "find",
    "make_visible",
    "mark_withdrawn",
    "models",
    "registered_model",
    "same",
    "settle",
    "versions",
]

MOST_VERSIONS = 1000
"""Setting an alias or a tag loads every version of the model: 80 ms at a thousand, 1.3 s at ten thousand (measured)."""

_PAGE = 200
_MODELS = 100
_TRIES = 5


_REMEDIES: dict[Side, str] = {
    "vendor": "a version never changes; give the new content a new version in release.toml",
    "studio": "somebody else made that version; delete it in MLflow, then run changeover sync",
}


@dataclass(frozen=True, slots=True)
class Registered:
    """One release as MLflow has it: the version's number there, and the LoggedModel that holds its artifacts."""

    model: str
    version: str
    digest: str
    number: int
    holder: str


@dataclass(frozen=True, slots=True)
class Registration:
    """What a registration came to; `new` is False where the same release was there already."""

    registered: Registered
    new: bool


def models(client: "MlflowClient") -> "Iterator[RegisteredModel]":
    """Every registered model that says by its tag that it is one of ours."""
    token: str | None = None
    while True:
        page = client.search_registered_models(max_results=_MODELS, page_token=token)
        yield from (one for one in page if model_of(str(one.name), one.tags.get("changeover.model")) is not None)
        token = page.token
        if not token:
            return


def registered_model(client: "MlflowClient", model: str) -> "RegisteredModel | None":
    """A model's entry with its aliases, its tags and its description; None where MLflow has none."""
    page = client.search_registered_models(f"name = '{registered_name(model)}'", max_results=1)
    return page[0] if page else None


def versions(client: "MlflowClient", model: str, only: str = "", size: int = _PAGE) -> tuple[Registered, ...]:
    """The releases of a model, or of it the one version `only`: of equal versions the lowest number."""
    listed = (_registered(version, model) for version in _pages(client, _filter(model, only), size))
    first: dict[str, Registered] = {}
    for entry in sorted((entry for entry in listed if entry is not None), key=lambda entry: entry.number):
        first.setdefault(entry.version, entry)
    return tuple(first.values())


def find(client: "MlflowClient", model: str, version: str) -> Registered | None:
    """The release of that model and version, if it is registered."""
    return next(iter(versions(client, model, version)), None)


def same(known: Registered, release: Release, location: str, side: Side) -> Registered:
    """The registered release, which must be of the same content; `side` is whose MLflow it is.

    Raises:
        RefusedError: It is of other content.
    """
    if known.digest == release.digest():
        return known
    raise RefusedError(
        "registered version",
        where=f"{release.model}@{release.version} in {location}",
        expected=f"the content that was registered as this version, {digest12(known.digest)}",
        actual=f"other content, {digest12(release.digest())}",
        remedy=_REMEDIES[side],
    )


def check_room(client: "MlflowClient", model: str, location: str, most: int = MOST_VERSIONS) -> None:
    """Refuse one version more than MLflow stays quick with; numbers are never reused, so mostly one look is enough.

    Raises:
        UnreachableError: The registered model is full.
    """
    newest = client.search_model_versions(_filter(model, ""), max_results=1, order_by=["version_number DESC"])
    if not newest or int(newest[0].version) < most:
        return
    if sum(1 for _ in _pages(client, _filter(model, ""), _PAGE)) >= most:
        raise too_many(f"{model} in {location}", most)


def make_visible(client: "MlflowClient", release: Release, holder: str, page: Page, pages: Page) -> int:
    """Make the version that everybody sees, in one call; returns its number.

    Args:
        client: MLflow.
        release: What it is.
        holder: The LoggedModel that it points at.
        page: What its own page says.
        pages: What the page of the model says that all its versions stand under.
    """
    known = registered_model(client, release.model) or _new_model(client, release.model, pages)
    if is_ours(known.description) and known.description != pages.text:
        client.update_registered_model(registered_name(release.model), pages.text)
    return _create(client, registered_name(release.model), release, holder, page)


def describe(client: "MlflowClient", entry: Registered, page: Page) -> None:
    """Let a version's page say this, unless a person wrote there."""
    name = registered_name(entry.model)
    if is_ours(client.get_model_version(name, str(entry.number)).description):
        client.update_model_version(name, str(entry.number), page.text)


def mark_withdrawn(client: "MlflowClient", entry: Registered, why: str) -> None:
    """Let a version's page say that its vendor took it back, unless a person wrote there."""
    name = registered_name(entry.model)
    page = withdrawn_page(client.get_model_version(name, str(entry.number)).description, why)
    if page is not None:
        client.update_model_version(name, str(entry.number), page)


def settle(
    client: "MlflowClient", release: Release, number: int, holder: str, drop: Callable[[str], None]
) -> Registration:
    """Whoever has the lower number has the version; everybody who looks finds the same.

    Args:
        client: MLflow.
        release: What was registered.
        number: Its number.
        holder: What it points at.
        drop: Takes away a LoggedModel that nothing points at.

    Raises:
        LostRaceError: The version belongs to other content.
    """
    winner = find(client, release.model, release.version)
    if winner is not None and winner.number != number:
        _take_away(client, release.model, number)
        if winner.holder != holder:
            drop(holder)
    if winner is None or winner.digest != release.digest():
        raise LostRaceError(
            "register",
            where=f"{release.model}@{release.version}",
            expected=f"nobody else registering this version while {digest12(release.digest())} was on its way",
            actual=f"{digest12(winner.digest)} under number {winner.number}" if winner else "no version",
            remedy="give your release another version in release.toml and register it again",
        )
    return Registration(winner, new=winner.holder == holder)


def _new_model(client: "MlflowClient", model: str, pages: Page) -> "RegisteredModel":
    from mlflow.exceptions import MlflowException

    try:
        tags = {"changeover.model": model}
        return client.create_registered_model(registered_name(model), tags=tags, description=pages.text)
    except MlflowException:
        # Somebody made it at this moment, which a database may tell in words of its own.
        known = registered_model(client, model)
        if known is None:
            raise
        return known


def _create(client: "MlflowClient", name: str, release: Release, holder: str, page: Page) -> int:
    """Of many at once a server numbers each once, or gives up after three tries of its own."""
    from mlflow.exceptions import MlflowException

    for attempt in range(_TRIES):
        try:
            made = client.create_model_version(
                name,
                source=f"models:/{holder}",
                model_id=holder,
                tags=release_tags(release),
                description=page.text,
            )
            return int(made.version)
        except MlflowException as error:
            crowded = "Giving up after" in str(error) or "database is locked" in str(error)
            if not crowded or attempt == _TRIES - 1:
                raise
            time.sleep((attempt + 1) * random.uniform(0.1, 0.4))  # noqa: S311 - chance keeps writers apart
    message = "not reached: the last attempt returns or raises"
    raise AssertionError(message)


def _take_away(client: "MlflowClient", model: str, number: int) -> None:
    """Remove our own version that does not count. Where that is not allowed it stays, and readers ignore it."""
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):
        client.delete_model_version(registered_name(model), str(number))


def _filter(model: str, only: str) -> str:
    """MLflow's query; a version has no character that would end the quotes."""
    tag = f" and tags.`changeover.version` = '{Version.parse(only)}'" if only else ""
    return f"name = '{registered_name(model)}'{tag}"


def _pages(client: "MlflowClient", query: str, size: int) -> "Iterator[ModelVersion]":
    token: str | None = None
    while True:
        page = client.search_model_versions(query, max_results=size, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _registered(version: "ModelVersion", model: str) -> Registered | None:
    """The entry that a version stands for; None if somebody made it by hand, without our tags."""
    tags, holder = version.tags, str(version.source).removeprefix("models:/")
    if tags.get("changeover.model") != model:
        return None
    try:
        number = str(Version.parse(tags.get("changeover.version", "")))
        digest = check_digest(tags.get("changeover.digest", ""), where="changeover.digest")
    except ChangeoverError:
        return None
    return Registered(model, number, digest, int(version.version), holder)
