import pytest

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts
from changeover_validators.devices import LOOK, NO_INTERPRETER, look, nuke_gpus
from changeover_validators.probe import forged_host, forged_hosts


def cards(facts: HostFacts) -> tuple[Gpu, ...]:
    assert isinstance(facts.gpus, tuple)
    return facts.gpus


@pytest.mark.parametrize("name", forged_hosts())
def test_without_a_choice_nuke_may_be_set_to_any(name: str) -> None:
    facts = forged_host(name).model_copy(update={"nuke_gpu": None})

    assert nuke_gpus(facts) == facts.gpus


def test_card_that_nuke_is_set_to_is_meant_alone() -> None:
    facts = forged_host("two-unlike-bound")
    first, second = cards(facts)

    assert nuke_gpus(facts) == (first,)
    assert nuke_gpus(facts.model_copy(update={"nuke_gpu": second.uuid})) == (second,)


def test_instance_that_nuke_is_set_to_means_its_card() -> None:
    facts = forged_host("a100-mig-80gib")
    (card,) = cards(facts)
    assert isinstance(card.instances, tuple)

    assert nuke_gpus(facts.model_copy(update={"nuke_gpu": card.instances[2].uuid})) == (card,)


def test_choice_that_no_card_here_has_is_unknown() -> None:
    for name in ("two-unlike-gpus", "no-gpu"):
        found = nuke_gpus(forged_host(name).model_copy(update={"nuke_gpu": "GPU-sold"}))
        assert isinstance(found, Unknown)
        assert "GPU-sold" in found.unknown


def test_unknown_cards_stay_unknown_whatever_nuke_is_set_to() -> None:
    facts = forged_host("unknown-gpus")

    assert nuke_gpus(facts.model_copy(update={"nuke_gpu": "GPU-1"})) == facts.gpus


def test_fact_that_no_interpreter_could_tell_is_learned_by_naming_one() -> None:
    assert "name an interpreter with the extra run" in look(Unknown(unknown=NO_INTERPRETER))
    assert look(Unknown(unknown="no such library")) == LOOK
