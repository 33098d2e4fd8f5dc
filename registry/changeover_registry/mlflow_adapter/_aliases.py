"""Drawing the studio's choice as MLflow's aliases, and seeing which of them a person moved.

What is drawn and what is a request is decided in `aliases`; here MLflow is asked and told.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from changeover_registry.mlflow_adapter._entries import find, models, registered_model, versions
from changeover_registry.mlflow_adapter.aliases import (
    DRAWN,
    Chosen,
    Drawing,
    Held,
    MovedAlias,
    alias_of,
    drawings,
    known_number,
    note_of,
    requests,
)
from changeover_registry.mlflow_adapter.view import registered_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

__all__ = ["draw", "draw_promoted", "moved"]


def draw(client: "MlflowClient", choice: Iterable[Held]) -> tuple[str, ...]:
    """Have the aliases show all that the choice gives its channels; returns ``vendor/name alias`` of each that changed.

    A release that MLflow does not have, or has with another digest, is not drawn.
    """
    by_model = _by_model(choice)
    changed = []
    for model, known in _known(client, by_model):
        held = by_model.get(model, ())
        for drawing in drawings(_numbers(client, held, known.tags), known.tags):
            _apply(client, registered_name(model), drawing, held)
            changed.append(f"{model} {drawing.alias}")
    return tuple(changed)


def draw_promoted(client: "MlflowClient", held: Iterable[Held]) -> None:
    """Draw what was promoted just now, wherever its aliases were: what somebody asked for there is answered."""
    for one in held:
        for chosen in _numbers(client, (one,), {}):
            _apply(client, registered_name(one.release.model), Drawing(alias_of(one.channel), chosen.number), (one,))


def moved(client: "MlflowClient", held: Iterable[Held]) -> tuple[MovedAlias, ...]:
    """Every alias of ours that a person moved, made or took away."""
    by_model = _by_model(held)
    return tuple(
        one
        for model, known in _known(client, by_model)
        for one in _moved(client, model, known, by_model.get(model, ()))
    )


def _known(client: "MlflowClient", held: Iterable[str]) -> tuple[tuple[str, "RegisteredModel"], ...]:
    """What MLflow has of our models: all that say so by their tag, and what is held and does not say so any more."""
    said = {str(known.tags["changeover.model"]): known for known in models(client)}
    silent = ((model, registered_model(client, model)) for model in held if model not in said)
    return (*said.items(), *((model, known) for model, known in silent if known is not None))


def _moved(
    client: "MlflowClient", model: str, known: "RegisteredModel", held: Iterable[Held]
) -> tuple[MovedAlias, ...]:
    found = requests(_numbers(client, held, known.tags), _aliases(known), known.tags)
    named = {entry.number: entry.version for entry in versions(client, model)} if found else {}
    chosen = {one.channel: one.release.version for one in held}
    return tuple(
        MovedAlias(
            model,
            one.alias,
            one.channel,
            asked=None if one.asked is None else named.get(one.asked, f"MLflow's version {one.asked}"),
            chosen=chosen.get(one.channel),
            is_release=one.asked is None or one.asked in named,
        )
        for one in found
    )


def _numbers(client: "MlflowClient", held: Iterable[Held], tags: Mapping[str, str]) -> tuple[Chosen, ...]:
    """The versions of what the channels hold, for what MLflow has with the digest that was chosen.

    What was drawn before is not looked for again: a hundred models that stay as they are cost one question.
    """
    found = []
    for one in held:
        number = known_number(one, tags)
        if number is None:
            entry = find(client, one.release.model, one.release.version)
            number = entry.number if entry and entry.digest == one.release.digest else None
        if number is not None:
            found.append(Chosen(one.channel, number))
    return tuple(found)


def _by_model(held: Iterable[Held]) -> Mapping[str, tuple[Held, ...]]:
    found: dict[str, tuple[Held, ...]] = {}
    for one in held:
        found[one.release.model] = (*found.get(one.release.model, ()), one)
    return found


def _aliases(known: "RegisteredModel") -> dict[str, int]:
    return {str(alias): int(number) for alias, number in known.aliases.items()}


def _apply(client: "MlflowClient", name: str, drawing: Drawing, held: Iterable[Held]) -> None:
    """The alias first, the note of it last: killed in between it is drawn again."""
    releases = {alias_of(one.channel): one.release for one in held}
    note = f"{DRAWN}{drawing.alias}"
    if drawing.number is None:
        client.delete_registered_model_alias(name, drawing.alias)
        client.delete_registered_model_tag(name, note)
        return
    _set(client, name, drawing.alias, str(drawing.number))
    client.set_registered_model_tag(name, note, note_of(drawing.number, releases[drawing.alias]))


def _set(client: "MlflowClient", name: str, alias: str, number: str) -> None:
    """Of two who draw an alias for the first time at one moment, one is answered with an error of the database."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(name, alias, number)
    except MlflowException:
        client.set_registered_model_alias(name, alias, number)
