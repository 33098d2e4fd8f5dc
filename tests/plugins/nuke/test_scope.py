from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.station import ScopeRules

part = st.sampled_from([None, "a", "b"])


def _rules(**fields: Any) -> dict[str, Any]:
    return ScopeRules(**fields).model_dump(mode="json")


PATTERN = r"/shows/(?P<show>[^/]+)/(?P<sequence>[^/]+)/(?P<shot>[^/]+)/"


def test_each_source_gives_a_scope(plug: Any) -> None:
    rules = _rules(path=PATTERN)

    by_environment = plug({"SHOW": "atlas", "SEQUENCE": "010", "SHOT": "0020"})
    assert tuple(by_environment.scope.find_scope(rules, None)) == ("atlas", "010", "0020")

    found = plug({})
    assert tuple(found.scope.find_scope(rules, None)) == (None, None, None)
    found.nuke.root()["name"].setValue("C:\\shows\\atlas\\010\\0030\\comp.nk")
    assert tuple(found.scope.find_scope(rules, None)) == ("atlas", "010", "0030")

    found = plug({})
    found.nuke.root().addKnob(found.nuke.String_Knob("changeover_show", "show", " borea "))
    assert tuple(found.scope.find_scope(rules, None)) == ("borea", None, None)

    found = plug({})
    found.nuke.root().addKnob(
        found.nuke.Gsv_Knob("gsv", value={"__default__.show": "atlas", "__default__.shot": "0040"})
    )
    assert tuple(found.scope.find_scope(rules, None)) == ("atlas", None, "0040")


def test_two_nodes_of_one_script_work_in_two_shots(plug: Any) -> None:
    found = plug({"SHOW": "atlas"})
    nuke = found.nuke
    groups = [nuke.createNode("Group") for _ in range(2)]
    for group, shot in zip(groups, ("0010", "0020"), strict=True):
        group.addKnob(nuke.Gsv_Knob("gsv", value={"__default__.shot": shot}))
    nodes = [nuke.createNode("Inference", parent=group) for group in groups]

    scopes = [tuple(found.scope.find_scope(_rules(), node)) for node in nodes]

    assert scopes == [("atlas", None, "0010"), ("atlas", None, "0020")]


def test_a_variable_may_be_named_with_its_set_and_is_inherited_from_the_root(plug: Any) -> None:
    found = plug({})
    found.nuke.root().addKnob(found.nuke.Gsv_Knob("gsv", value={"prism.shot": "0050"}))
    node = found.nuke.createNode("Inference")

    scope = found.scope.find_scope(_rules(gsv=("show", "sequence", "prism.shot")), node)

    assert tuple(scope) == (None, None, "0050")


def test_the_order_of_the_rules_decides_and_other_sources_are_not_asked(plug: Any) -> None:
    found = plug({"SHOW": "atlas", "SHOT": "0010"})
    found.nuke.root()["name"].setValue("/shows/atlas/010/0099/comp.nk")

    path_first = found.scope.find_scope(_rules(order=("path", "environment"), path=PATTERN), None)
    environment_only = found.scope.find_scope(_rules(order=("environment",), path=PATTERN), None)

    assert tuple(path_first) == ("atlas", "010", "0099")
    assert tuple(environment_only) == ("atlas", None, "0010")


@pytest.mark.parametrize("pattern", ["(", "(?P<other>x)", "nowhere"])
def test_a_pattern_that_is_wrong_or_finds_nothing_leaves_the_scope_unknown(plug: Any, pattern: str) -> None:
    found = plug({})

    assert tuple(found.answers.scope_from_path(pattern, "/shows/atlas/x.nk")) == (None, None, None)


@given(st.lists(st.tuples(part, part, part), max_size=4))
@settings(deadline=None)
def test_joined_scopes_never_mix_what_contradicts(answers: Any, scopes: Any) -> None:
    joined = answers.join_scopes(answers.Scope(*scope) for scope in scopes)

    known: list[Any] = [None, None, None]
    for scope in scopes:
        if not any(a and b and a != b for a, b in zip(known, scope, strict=True)):
            known = [a or b for a, b in zip(known, scope, strict=True)]
    assert list(joined) == known
