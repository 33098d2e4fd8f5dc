from hypothesis import given
from hypothesis import strategies as st

from changeover_validators.golden.report.aliases import Aliases

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


def outside(*names: str) -> Aliases:
    return Aliases.make(names, {name: f"shot-{number}" for number, name in enumerate(names, 1)})


def test_names_in_sentences_paths_and_commands_give_way_to_aliases() -> None:
    aliases = outside("ab010", "ab010-wide", "ab020")

    told = aliases.text("/jobs/AB010-wide/plate.1001.exr: ab010_v2 differs from ab020; golden approve hero ab010")

    assert told == "/jobs/shot-2/plate.1001.exr: shot-1_v2 differs from shot-3; golden approve hero shot-1"


def test_a_name_within_another_word_is_none() -> None:
    assert outside("a1").text("sha256 fa1b, a10, xa1") == "sha256 fa1b, a10, xa1"


def test_a_reader_who_may_know_sees_the_names() -> None:
    aliases = Aliases.make(["ab010"], {"ab010": "shot-1"}, named=True)

    assert (aliases.label("ab010"), aliases.alias("ab010"), aliases.text("ab010 is dark")) == (
        "ab010",
        "shot-1",
        "ab010 is dark",
    )


def test_a_reader_who_may_know_sees_names_where_a_verdict_has_aliases() -> None:
    known = {f"ab0{number}0": f"shot-{number}" for number in range(1, 13)}
    aliases = Aliases.make(known, known, named=True)

    assert aliases.text("shot shot-2: J 0.9 of 1.1.0; shot-12 (shot-1)") == "shot ab020: J 0.9 of 1.1.0; ab0120 (ab010)"


def test_an_alias_that_is_also_a_name_is_left_as_it_stands() -> None:
    aliases = Aliases.make(["shot-2", "ab010"], {"shot-2": "shot-1", "ab010": "shot-2"}, named=True)

    assert aliases.text("shot-2 is dark, shot-1 is not") == "shot-2 is dark, shot-2 is not"


def test_a_shot_without_an_alias_gets_a_number_of_its_own() -> None:
    aliases = Aliases.make(["b", "a", "c"], {"c": "unnamed-1"})

    assert {name: aliases.label(name) for name in "abc"} == {"a": "unnamed-2", "b": "unnamed-3", "c": "unnamed-1"}


@given(
    names=st.sets(NAMES, min_size=1, max_size=6), words=st.lists(st.sampled_from(["/", ".", " ", "_", ":"]), max_size=5)
)
def test_no_name_is_left_as_a_word_however_names_overlap(names: set[str], words: list[str]) -> None:
    ordered = sorted(names)
    aliases = Aliases.make(ordered, {name: f"ALIAS{number}" for number, name in enumerate(ordered)})
    sentence = "".join(word + name for word in ["", *words, " "] for name in [*ordered, ""])

    told = aliases.text(" ".join(ordered) + " " + sentence)

    assert not names & set(told.split())
    assert aliases.text(" ".join(ordered)).split() == [f"ALIAS{number}" for number in range(len(ordered))]
