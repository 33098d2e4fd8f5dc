import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.policy import Policy

HEAD = 'schema = "changeover.policy/1"\n'


def test_a_policy_with_nothing_but_its_schema_has_the_safe_defaults() -> None:
    policy = Policy.from_toml(HEAD.encode(), where="policy.toml")

    assert policy == Policy()
    assert policy.sandbox == "required"
    assert not policy.hardware.serve_on_cpu


def test_numbers_of_a_person_are_kept_as_decimal_text() -> None:
    text = HEAD + "[golden]\nmargin_jaccard = 0.010\nconfidence = 0.9\n[speed]\nratio = 2\n"

    policy = Policy.from_toml(text.encode(), where="policy.toml")

    assert (policy.golden.margin_jaccard, policy.golden.confidence, policy.speed.ratio) == ("0.010", "0.9", "2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[golden]\nmargin = 0.1\n", "golden.margin: expected no such field"),
        ("[golden]\nmin_shots = 0.5\n", "golden.min_shots: expected a valid integer"),
        ("[golden]\nmin_shots = 1\n", "golden.min_shots: expected greater than or equal to 2"),
        ("[golden]\nmargin_mad = -0.1\n", "golden.margin_mad: expected text of the form"),
        ("[golden]\nmargin_mad = nan\n", "golden.margin_mad: expected text of the form"),
        ("[golden]\nconfidence = 1.0\n", "golden: expected a confidence from 0.5 to under 1, found 1.0"),
        ("[golden]\nconfidence = 0.05\n", "golden: expected a confidence"),
        ("[golden]\nthreshold = 0\n", "golden: expected a threshold between 0 and 1"),
        ("[hardware]\nram_share = 9\n", "hardware: expected a ram_share of at most 1, found 9"),
        ("[vram]\nplate = [0, 2160]\n", "vram.plate.0: expected"),
        ('sandbox = "off"\n', "sandbox: expected 'required' or 'limits-only', found 'off'"),
        ('[scope]\npath = "("\n', "scope: expected path to be a regular expression"),
        ('[scope]\npath = "(?P<user>.*)"\n', "scope: expected only the groups show, sequence and shot in path"),
        ('[scope]\norder = ["guess"]\n', "scope.order.0: expected"),
        ('[hooks]\npromoted = ""\n', "hooks.promoted: expected"),
        ('[hooks]\npromoted = "tell.sh"\n', "expected an absolute path of an executable for promoted"),
        ('[hooks]\nexploded = "/bin/true"\n', "expected 'accepted', 'refused', 'promoted'"),
        ("sandbox = \n", "TOML: policy.toml"),
    ],
)
def test_a_wrong_line_is_refused_and_named(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Policy.from_toml((HEAD + text).encode(), where="policy.toml")

    assert message in str(caught.value)
    assert "policy.toml" in caught.value.where


def test_a_file_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="a TOML file in UTF-8"):
        Policy.from_toml(b'a = "\xff"', where="policy.toml")


def test_a_policy_without_its_schema_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="expected changeover.policy/1"):
        Policy.from_toml(b'sandbox = "required"\n', where="policy.toml")
