import pytest

from changeover_validators.vram import scratch_probe


@pytest.mark.parametrize("threads", [1, 2])
def test_scratch_memory_is_what_kernels_really_take(threads: int) -> None:
    pytest.importorskip("onnxruntime")

    found = list(scratch_probe.answers(threads=threads))

    assert [one.question for one in found if one.said != one.taken] == []
    assert sum(one.taken > 0 for one in found) >= 25


def test_probe_prints_a_line_for_each_question(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")

    assert scratch_probe.main([]) == 0

    assert len(capsys.readouterr().out.splitlines()) == len(scratch_probe.QUESTIONS)
