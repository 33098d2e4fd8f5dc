import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError
from changeover_updater import nuke_script
from changeover_updater.nuke_script import NukeScript, parse_script, read_script

KINDS = frozenset({"Inference"})

SCRIPT = r"""#! /usr/local/Nuke15.1v3/nuke-15.1.3 -nx
#write_info Write1 file:"/renders/{ unbalanced" format:"2048 1556 1"
version 15.1 v3
define_window_layout_xml {<?xml version="1.0" encoding="UTF-8"?>
<layout version="1.0"><window x="51"/></layout>
}
Root {
 inputs 0
 name /shows/atlas/010/0020/comp_v012.nk
 format "2048 1556 0 0 2048 1556 1 2K_Super_35(full-ap)"
 colorManagement Nuke
 addUserKnob {20 User}
 addUserKnob {1 changeover_show l show}
 changeover_show atlas
}
Read {
 inputs 0
 file_type exr
 file "/plates/a b/plate.####.exr"
 name Read1
 xpos 0
}
set N4f0c4e00 [stack 0]
push 0
push $N4f0c4e00
Group {
 inputs 2
 name Group1
 knobChanged "n = nuke.thisNode()\nif n\['x'].value() == \"\{\":\n    pass"
 selected true
}
 Input {
  inputs 0
  name Input1
 }
 Group {
  name Inner
 }
  Inference {
   modelFile /store/releases/acme/roto/1.0.0-0123456789ab/nuke-cat/m.cat
   tileSize 1024
   tileOverlap 96
   serialiseKnob "{threshold:\"0.5\";name:{\"expr\"}}"
   name Inference1
   addUserKnob {20 changeover l Changeover}
   addUserKnob {1 changeover_model l model}
   changeover_model acme/roto
   addUserKnob {1 changeover_version l version}
   changeover_version {1.0.0}
   addUserKnob {1 changeover_digest l digest}
   changeover_digest "0123"
  }
  Output {
   name Output1
  }
 end_group
end_group
set C4f0 [stack 0]
clone node7f8|Inference|12 Inference {
 inputs 1
 modelFile {[value root.name]/m.cat}
 label "caf\xe9 \u00fc \101 \[value name] tab\tend"
 name Inference2
}
push 0
clone $C4f0 {
 xpos 100
 ypos 100
}
RotoPaint {
 inputs 0
 curves {{{v x3f99999a} {f 0} {n {layer Root {f 0} {t x44800000 x44430000}}}}}
 name RotoPaint1
}
# a comment { with a brace
Viewer {frame 1 name Viewer1}
"""


def _read(text: str, kinds: frozenset[str] = KINDS) -> NukeScript:
    return parse_script(text.encode(), "comp.nk", kinds)


def test_nodes_are_found_with_their_full_names_and_knobs() -> None:
    script = _read(SCRIPT)

    assert [(node.name, node.kind) for node in script.nodes] == [
        ("Group1.Inner.Inference1", "Inference"),
        ("Inference2", "Inference"),
    ]
    first, second = script.nodes
    assert first.knobs["changeover_model"] == "acme/roto"
    assert (first.knobs["changeover_version"], first.knobs["changeover_digest"]) == ("1.0.0", "0123")
    assert (first.knobs["tileSize"], first.knobs["tileOverlap"]) == ("1024", "96")
    assert first.knobs["serialiseKnob"] == '{threshold:"0.5";name:{"expr"}}'
    assert second.knobs["modelFile"] == "[value root.name]/m.cat"
    assert second.knobs["label"] == "caf\xe9 \xfc A [value name] tab\tend"
    assert SCRIPT.splitlines()[first.line - 1] == "  Inference {"


def test_the_root_the_version_and_the_digest_of_the_bytes_are_told() -> None:
    import hashlib

    script = _read(SCRIPT)

    assert script.nuke_line == "15.1"
    assert script.root["changeover_show"] == "atlas"
    assert script.sha256 == hashlib.sha256(SCRIPT.encode()).hexdigest()
    assert not script.gsv


def test_graph_scope_variables_are_said_to_be_there() -> None:
    assert _read("Root {\n name x\n gsv {{default {shot 0020}}}\n}\n").gsv


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])
def test_a_script_is_read_in_any_encoding_and_with_any_ends_of_lines(encoding: str, ends: str) -> None:
    text = 'Root {\n name x\n}\nInference {\n label "Möbius größer"\n name Inference1\n}\n'.replace("\n", ends)

    script = parse_script(text.encode(encoding), "comp.nk", KINDS)

    assert [node.name for node in script.nodes] == ["Inference1"]


def test_bytes_that_are_no_text_of_any_encoding_are_read_for_what_is_ascii_in_them() -> None:
    data = b'Root {\n name x\n}\nInference {\n label "\x83\x5d\xff\xfe\x80"\n name Inference1\n}\n'

    assert [node.name for node in parse_script(data, "comp.nk", KINDS).nodes] == ["Inference1"]


@pytest.mark.parametrize("kind", ["LiveGroup", "VariableGroup", "WhateverGroup99"])
@pytest.mark.parametrize(
    ("inside", "names"),
    [
        (" Inference {\n  name I\n }\n", ["G.I", "Last"]),
        ("", ["Last"]),
    ],
    ids=["with nodes", "empty"],
)
def test_a_node_of_any_class_is_a_group_if_nodes_or_an_end_follow_as_nuke_writes_them(
    kind: str, inside: str, names: list[str]
) -> None:
    last = "Inference {\n name Last\n}\n"

    as_group = _read(f"Root {{\n name x\n}}\n{kind} {{\n name G\n}}\n{inside}end_group\n{last}")
    nested = _read(f"Root {{\n name x\n}}\nGroup {{\n name Outer\n}}\n {kind} {{\n  name G\n }}\nend_group\n{last}")

    assert [node.name for node in as_group.nodes] == names
    assert [node.name for node in nested.nodes] == ["Last"], "without nodes of its own, the end is the outer group's"


def test_groups_without_any_indents_are_read_by_their_ends() -> None:
    inner = "Group {\nname H\n}\nBlur {\nname B\n}\nend_group\n"
    text = f"Root {{}}\nGroup {{\nname G\n}}\n{inner}Inference {{\nname I\n}}\nend_group\n"

    assert [node.name for node in _read(text).nodes] == ["G.I"]


BROKEN = {
    "an open brace": ("Root {\n name x\n", "comp.nk:1: expected what closes a {"),
    "an open quote": ('Root {}\nA {\n}\nInference {\n name "x\n}\n', 'comp.nk:5: expected a " at the end'),
    "an open bracket": ("Root {}\nset N1 [stack 0\n", "comp.nk:2: expected what closes a ["),
    "an open group": ("Root {}\nGroup {\n name G\n}\n", "comp.nk:2: expected an end_group for every group"),
    "an end_group too many": ("Root {}\nend_group\n", "comp.nk:2: expected an end_group of a group"),
    "a group of another class without indents": (
        "Root {}\nGroup {\n name G\n}\nOddGroup {\n name O\n}\nend_group\nInference {\n name I\n}\nend_group\n",
        "comp.nk:12: expected an end_group of a group, found one that closes no group",
    ),
    "a node without a name": ("Root {}\nInference {\n inputs 0\n}\n", "comp.nk:2: expected a name on the node"),
    "a group without a name": (
        "Root {}\nGroup {\n}\nInference {\n name I\n}\nend_group\n",
        "found ?.I",
    ),
    "two nodes of one name": (
        "Root {}\nInference {\n name I\n}\nInference {\n name I\n}\n",
        "comp.nk:5: expected each node with a name of its own, found I again, which is at line 2 too",
    ),
    "a knob without a value": ("Root {}\nInference {\n name\n}\n", "found 'name' without one"),
    "no node": ("# nothing but a comment\n", "expected nodes, as Nuke saves them, found none"),
    "nothing": ("", "expected nodes, as Nuke saves them, found none"),
    "a binary file": ("\0\1\2", "found a binary file"),
    "groups without end": ("Root {}\n" + "Group {\n name G\n}\n" * 200, "expected groups at most 100 deep"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_whole_script_is_refused_with_its_line(name: str) -> None:
    text, sentence = BROKEN[name]

    with pytest.raises(InvalidInputError) as caught:
        _read(text)

    assert sentence in str(caught.value)


def test_a_file_that_is_not_there_or_far_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        read_script(tmp_path / "none.nk", KINDS)

    large = tmp_path / "large.nk"
    large.write_text(SCRIPT)
    monkeypatch.setattr(nuke_script, "LIMIT_BYTES", 100)
    with pytest.raises(InvalidInputError, match="at most 100 bytes"):
        read_script(large, KINDS)


@pytest.mark.parametrize(
    "evil",
    [
        "Root {}\nA {\n name a\n c " + "{" * 300_000 + "}" * 300_000 + "\n}\n",
        'Root {}\nA {\n name a\n c "' + "\\\\" * 300_000 + '"\n}\n',
        "Root {}\nset x " + "[" * 300_000 + "]" * 300_000 + "\n",
        "Root {}\n" + "# \\\n" * 100_000,
        "Root {}\nA {\n name a\n c " + "\\ " * 300_000 + "\n}\n",
        "Root {}\n" + "B {name b};" * 200_000,
    ],
    ids=["braces", "backslashes", "brackets", "comments", "escaped blanks", "one line"],
)
def test_depth_and_length_cost_no_more_than_reading(evil: str) -> None:
    import time

    began = time.process_time()
    _read(evil, frozenset({"A"}))

    # A reader that looked at each position twice for each level would take hours, so this needs no exact bound.
    assert time.process_time() - began < 30


def test_no_command_of_a_script_is_run(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    text = f"Root {{\n name x\n}}\nset x [exec touch {gone}]\nInference {{\n name [exec touch {gone}]\n}}\n"

    script = _read(text.replace(f"name [exec touch {gone}]", 'name "[exec]"'))

    assert [node.name for node in script.nodes] == ["[exec]"]
    assert not gone.exists()


plain = st.text(st.characters(min_codepoint=32, max_codepoint=382), max_size=30)


@given(plain)
def test_any_text_in_quotes_comes_back_as_it_was(text: str) -> None:
    quoted = "".join(f"\\{c}" if c in '\\"[]{}$' else c for c in text)

    script = _read(f'Root {{}}\nInference {{\n label "{quoted}"\n name I\n}}\n')

    assert script.nodes[0].knobs["label"] == text


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        parse_script(b"Root {\n name x\n}\n" + data, "comp.nk", KINDS)
