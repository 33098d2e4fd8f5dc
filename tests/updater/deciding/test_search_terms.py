import pytest

from changeover_registry.errors import InvalidInputError
from changeover_updater.search_terms import NO_TERMS, Terms, parse_terms

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu=RTX A4000,vram<=8GiB,nuke=15.1", Terms(gpu="RTX A4000", vram=8 * GIB, nuke="15.1")),
        (" vram <= 8192 ", Terms(vram=8 * GIB)),
        ("vram<8GiB", Terms(vram=8 * GIB - 1)),
        ("vram<=1.5GiB", Terms(vram=GIB * 3 // 2)),
        ("size<=500MB", Terms(size=500_000_000)),
        ("size<=12B", Terms(size=12)),
        ("nuke=15.1v3", Terms(nuke="15.1v3")),
        ("loader=mlserver,runtime=onnx,precision=fp16", Terms(loader="mlserver", runtime="onnx", precision="fp16")),
    ],
)
def test_terms_are_read(text: str, expected: Terms) -> None:
    assert parse_terms([text]) == expected


def test_terms_of_several_flags_hold_together() -> None:
    assert parse_terms(["gpu=A4000", "vram<=8GiB"]) == Terms(gpu="A4000", vram=8 * GIB)
    assert parse_terms([]) == NO_TERMS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "gpu=NAME"),
        ("vram>=8GiB", "gpu=NAME"),
        ("colour=red", "gpu=NAME"),
        ("vram=8GiB", "vram<=SIZE"),
        ("vram<=much", "such as 8GiB"),
        ("vram<=-1", "such as 8GiB"),
        ("gpu<=A4000", "gpu=VALUE"),
        ("gpu=", "gpu=VALUE"),
        ("loader=maya", "nuke-inference"),
        ("nuke=fifteen", "a version of Nuke"),
        ("gpu=A4000,gpu=A5000", "gpu once"),
    ],
)
def test_term_that_cannot_be_read_is_refused_with_what_may_be_written(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_terms([text])

    assert said in caught.value.expected
