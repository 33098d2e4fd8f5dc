from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changeover_registry.records.findings import NotApplicable, Passed, Refused
from changeover_registry.records.release import Knob, Port, Release, State, TensorIn, Variant
from changeover_validators.checks.interface import check_interface, interface_changes

MakeRelease = Callable[..., Release]
MakeVariant = Callable[..., Variant]


def changed(release: Release, version: str, **parts: Any) -> Release:
    return release.model_copy(
        update={"version": version, "interface": release.interface.model_copy(update=parts)},
    )


KNOB = Knob(name="softness", kind="float", default="0.5")
CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"knobs": ()}, "knob softness is gone"),
    ({"knobs": (KNOB, Knob(name="detail", kind="int", default="1"))}, "knob detail is new"),
    ({"knobs": (Knob(name="softness", kind="int", default="1"),)}, "knob softness is int instead of float"),
    ({"outputs": (Port(name="matte", channels=("alpha",), colour="srgb"),)}, "output matte is srgb instead of raw"),
    (
        {"outputs": (Port(name="matte", channels=("alpha", "depth"), colour="raw"),)},
        "output matte has channels alpha,depth instead of alpha",
    ),
    ({"inputs": (Port(name="image", channels=("red",), colour="raw"),)}, "input image is new; input plate is gone"),
]


def test_nothing_in_use_is_not_applicable(make_release: MakeRelease) -> None:
    (found,) = check_interface(make_release(), None)

    assert isinstance(found, NotApplicable)
    assert found.rule == "no-baseline"


def test_same_interface_passes_whatever_the_version(make_release: MakeRelease) -> None:
    for version in ("1.0.1", "2.0.0", "0.9.0"):
        (found,) = check_interface(make_release(version=version), make_release())

        assert isinstance(found, Passed)


def test_other_default_of_a_knob_is_no_change_of_interface(make_release: MakeRelease) -> None:
    other = changed(make_release(), "1.1.0", knobs=(Knob(name="softness", kind="float", default="0.7"),))

    assert interface_changes(other, make_release()) == ()


@pytest.mark.parametrize(("parts", "words"), CHANGES)
def test_change_within_a_major_is_refused_and_named(
    make_release: MakeRelease, parts: dict[str, Any], words: str
) -> None:
    (found,) = check_interface(changed(make_release(), "1.1.0", **parts), make_release())

    assert isinstance(found, Refused)
    assert found.actual == words
    assert "new major" in found.remedy


@pytest.mark.parametrize(("parts", "words"), CHANGES)
def test_change_with_a_new_major_is_refused_only_for_moving_by_itself(
    make_release: MakeRelease, parts: dict[str, Any], words: str
) -> None:
    (found,) = check_interface(changed(make_release(), "2.0.0", **parts), make_release())

    assert isinstance(found, Refused)
    assert found.actual == words
    assert found.rule == "interface moves by itself"
    assert "changeover pin acme/person-roto@2.0.0" in found.remedy


def test_change_with_an_older_major_is_refused_as_within_one(make_release: MakeRelease) -> None:
    (found,) = check_interface(changed(make_release(), "0.9.0", knobs=()), make_release())

    assert isinstance(found, Refused)
    assert found.rule == "interface"


def test_ports_in_another_order_are_a_change_and_knobs_are_not(make_release: MakeRelease) -> None:
    first, second = Port(name="a", channels=("r",), colour="raw"), Port(name="b", channels=("r",), colour="raw")
    other = Knob(name="detail", kind="enum", default="fine", choices=("fine", "coarse"))
    current = changed(make_release(), "1.0.0", inputs=(first, second), knobs=(KNOB, other))

    ports = interface_changes(changed(current, "1.1.0", inputs=(second, first)), current)
    knobs = interface_changes(changed(current, "1.1.0", knobs=(other, KNOB)), current)

    assert ports == ("inputs are in another order",)
    assert knobs == ()


def test_knob_with_other_choices_is_a_change(make_release: MakeRelease) -> None:
    def detail(*choices: str) -> tuple[Knob, ...]:
        return (Knob(name="detail", kind="enum", default="fine", choices=choices),)

    current = changed(make_release(), "1.0.0", knobs=detail("fine", "coarse"))
    (found,) = interface_changes(changed(current, "1.1.0", knobs=detail("fine")), current)

    assert found == "knob detail is enum of fine instead of enum of fine,coarse"


def test_evaluation_that_changes_for_a_loader_is_a_change(make_release: MakeRelease, make_variant: MakeVariant) -> None:
    variant = make_variant(loaders=("python",))
    sequence = variant.contract.model_copy(
        update={"evaluation": "sequence", "states": (State(input="before", output="after"),)}
    )
    candidate = make_release(version="1.1.0", variants=(make_variant(loaders=("python",), contract=sequence),))

    (found,) = check_interface(candidate, make_release(variants=(variant,)))

    assert isinstance(found, Refused)
    assert found.actual == "python is evaluated as sequence instead of stateless"


@pytest.mark.parametrize("loader", ["nuke-inference", "mlserver", "flame"])
def test_loader_that_hands_over_one_frame_refuses_a_sequence(
    make_release: MakeRelease, make_variant: MakeVariant, loader: str
) -> None:
    contract = make_variant().contract.model_copy(update={"evaluation": "sequence"})
    nuke = {"runtime": "nuke-cat", "loaders": (loader,)} if loader == "nuke-inference" else {}
    variant = make_variant(**({"loaders": (loader, "python"), "contract": contract} | nuke))

    found, baseline = check_interface(make_release(variants=(variant,)), None)

    assert isinstance(found, Refused)
    assert (found.rule, found.subject) == (f"loader {loader}", "onnx-fp32")
    assert isinstance(baseline, NotApplicable)


def test_loader_that_takes_one_tensor_refuses_two(make_release: MakeRelease, make_variant: MakeVariant) -> None:
    contract = make_variant().contract
    guide = TensorIn(name="guide", port="guide", channels=("alpha",))
    two = contract.model_copy(update={"inputs": (*contract.inputs, guide)})

    base = make_release().interface
    ports = (*base.inputs, Port(name="guide", channels=("alpha",), colour="raw"))
    interface = base.model_copy(update={"inputs": ports})

    found = check_interface(make_release(interface=interface, variants=(make_variant(contract=two),)), None)

    assert [item.rule for item in found if isinstance(item, Refused)] == ["loader mlserver"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(summary=st.text(min_size=1, alphabet="abc"), order=st.permutations(["python", "mlserver"]))
def test_what_is_no_part_of_the_interface_changes_no_answer(
    make_release: MakeRelease, make_variant: MakeVariant, summary: str, order: list[str]
) -> None:
    other = make_release(
        version="1.0.1", summary=summary, changes=summary, variants=(make_variant(loaders=tuple(order)),)
    )

    assert interface_changes(other, make_release()) == ()
