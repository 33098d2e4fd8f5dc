import pytest

from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_validators.golden.catalogue import METRICS, SUMMARIES, check_comparable, metric

ALL = (*METRICS, *SUMMARIES)


def test_every_name_carries_its_variant_and_is_there_once() -> None:
    names = [one.name for one in ALL]
    assert len(set(names)) == len(names)
    assert all(len(name.split(":")) == 2 for name in names)


def test_a_metric_is_found_by_its_name() -> None:
    assert all(metric(one.name) is one for one in ALL)


def test_a_name_without_its_variant_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"metric: grad: expected one of .*grad:rvm-lr.*found an unknown name"):
        metric("grad")


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_every_metric_says_what_it_needs_and_where_it_is_from(one: object) -> None:
    known = metric(getattr(one, "name", ""))
    assert known.needs
    assert known.needs <= {"truth", "neighbour", "band", "flow"}
    assert known.unit in {"1", "matte", "matte squared", "thousand"}
    assert known.definition.endswith(".")
    assert known.source
    assert known.resolution_invariant == (known.unit != "thousand")


@pytest.mark.parametrize("name", ["sad:dim", "grad:rvm-lr", "conn:rvm-lr", "grad:truth-band"])
def test_a_sum_is_not_compared_across_resolutions(name: str) -> None:
    check_comparable(name, (4096, 2160), (4096, 2160))
    with pytest.raises(RefusedError, match="4096 x 2160, since this metric is a sum over pixels, found 2048 x 1080"):
        check_comparable(name, (4096, 2160), (2048, 1080))


@pytest.mark.parametrize("name", ["jaccard:davis2017", "mad:rvm", "dtssd:truth-band", "jaccard-decay:davis2017"])
def test_a_mean_may_be_compared_across_resolutions(name: str) -> None:
    check_comparable(name, (4096, 2160), (2048, 1080))
