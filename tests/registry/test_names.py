import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version as Pep440

from changeover_registry import names
from changeover_registry.errors import InvalidInputError
from changeover_registry.names import Version

numbers = st.integers(0, 999_999_999)
stages = st.just(("", 0)) | st.tuples(st.sampled_from(["a", "b", "rc"]), numbers)
versions = st.builds(lambda a, b, c, stage: Version(a, b, c, *stage), numbers, numbers, numbers, stages)


@settings(deadline=None)
@given(versions)
def test_a_version_has_one_spelling_that_reads_back(version: Version) -> None:
    assert Version.parse(str(version)) == version


@settings(deadline=None)
@given(versions, versions)
def test_versions_are_ordered_as_pep_440_orders_the_same_text(one: Version, other: Version) -> None:
    assert (one < other) == (Pep440(str(one)) < Pep440(str(other)))
    assert (one >= other) == (Pep440(str(one)) >= Pep440(str(other)))


def test_stages_come_before_the_final_release() -> None:
    texts = ["1.0.0a9", "1.0.0b0", "1.0.0rc1", "1.0.0rc10", "1.0.0", "1.0.1a0"]

    assert sorted(map(Version.parse, reversed(texts))) == [Version.parse(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "1!2.0.0",
        "1.0.0+cpu",
        "1.0.0.dev1",
        "1.0",
        "1.0.0.0",
        "v1.0.0",
        "1.0.00",
        "01.0.0",
        "1.0.0-rc1",
        "1.0.0RC1",
        "1.0.0rc",
        " 1.0.0",
        "1.0.0\n",
        "١.0.0",
        "1234567890.0.0",
        "",
    ],
)
def test_any_other_form_of_a_version_is_refused_and_named(text: str) -> None:
    with pytest.raises(InvalidInputError, match="no epoch, local part or dev") as caught:
        Version.parse(text, where="release.toml: version")

    assert caught.value.where == "release.toml: version"
    assert repr(text) in caught.value.actual


@pytest.mark.parametrize("text", ["a", "7", "person-roto", "a--b", "a" * 40])
def test_a_plain_word_may_be_a_name(text: str) -> None:
    assert names.check_name(text, where="name") == text


@pytest.mark.parametrize(
    "text",
    ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "a" * 41, "é", "a\n", *sorted(names.RESERVED_NAMES)],
)
def test_a_name_of_another_form_or_a_reserved_word_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="choose another name"):
        names.check_name(text, where="name")


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_the_roles_of_the_update_framework_are_reserved(role: str) -> None:
    assert role in names.RESERVED_NAMES


def test_a_model_is_vendor_slash_name() -> None:
    assert names.check_model("acme/person-roto", where="model") == "acme/person-roto"


@pytest.mark.parametrize("text", ["person-roto", "acme/", "/person-roto", "acme/a/b", "acme/con", "Acme/roto", ""])
def test_any_other_form_of_a_model_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        names.check_model(text, where="model")


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "g" * 64, "A" * 64, "sha256:" + "0" * 57])
def test_a_digest_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="sha256"):
        names.check_digest(text, where="digest")


def test_a_digest_is_shortened_to_its_first_12_characters_in_folders() -> None:
    digest = "0123456789ab" + "c" * 52

    assert names.check_digest(digest, where="digest") == digest
    assert names.digest12(digest) == "0123456789ab"
    assert names.release_folder("4.2.0", digest) == "4.2.0-0123456789ab"


@pytest.mark.parametrize("text", ["model.onnx", "a/b/c.bin", ".hidden", "A-1_2.x", "console.txt", "a" * 200])
def test_a_relative_posix_path_is_taken(text: str) -> None:
    assert names.check_path(text, where="path") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "/a",
        "C:/a",
        "C:a",
        "a\\b",
        "a b",
        "a\nb",
        "a%04d",
        "a#",
        "a[1]",
        "a{1}",
        "a*",
        "~/a",
        "$HOME",
        "-rf",
        "a/-rf",
        "a.",
        "a./b",
        "nul",
        "NUL.txt",
        "a/Aux.bin",
        "com1.onnx",
        "é",
        "a\x00",
        "a" * 201,
    ],
)
def test_a_path_that_leaves_its_folder_or_reads_as_a_pattern_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="a relative path") as caught:
        names.check_path(text, where="release.json: files.0.path")

    assert caught.value.where == "release.json: files.0.path"


@pytest.mark.parametrize(
    ("paths", "pair"),
    [
        (["a", "a"], "'a' and 'a'"),
        (["Model.onnx", "model.ONNX"], "'Model.onnx' and 'model.ONNX'"),
        (["a/b", "a"], "'a' and 'a/b'"),
        (["A", "a/b/c"], "'A' and 'a/b/c'"),
    ],
)
def test_two_paths_that_cannot_both_be_files_are_refused_together(paths: list[str], pair: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        names.check_paths(paths, where="files")

    assert caught.value.actual == pair


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[ab](/[ab]){0,2}", fullmatch=True), max_size=5))
def test_paths_are_taken_exactly_when_no_two_collide(paths: list[str]) -> None:
    collide = any(
        one == other or one.startswith(other + "/") or other.startswith(one + "/")
        for one, other in itertools.combinations(paths, 2)
    )
    refused = False
    try:
        names.check_paths(paths, where="files")
    except InvalidInputError:
        refused = True

    assert refused == collide
