"""Descriptions fit PostgreSQL, show a vendor's words letter by letter, and leave a person's own words alone."""

from dataclasses import replace

import pytest

from changeover_registry.mlflow_adapter.page import (
    MOST_CHARS,
    Judged,
    is_ours,
    judged,
    model_page,
    version_page,
    withdrawn_page,
)
from changeover_registry.mlflow_adapter.view import metric_values, release_tags, series_values, verdict_tags
from changeover_registry.records.release import Provenance
from changeover_servers.releases import accepted, small_release

RELEASE = small_release("acme/person-roto", "4.2.0", b"weights", changes="Finer hair.")
FOUND = Judged("accept", "2026-11-22T13:45:00Z", "it holds", "hero 2", "#/report", (("shot-1", "get-artifact?path=x"),))


def test_page_of_a_version_begins_with_the_release_and_ends_with_whose_words_these_are() -> None:
    page = version_page(RELEASE, "studio", FOUND)

    assert page.whole is None
    assert page.documents() == {}
    assert page.text.startswith("4.2.0: A release of tests.\n")
    assert "changeover promote acme/person-roto@4.2.0 --channel stable" in page.text
    assert "**Newest verdict: accept** (2026-11-22T13:45:00Z, hero 2): it holds [Report](#/report)" in page.text
    assert "![shot-1](get-artifact?path=x)" in page.text
    assert is_ours(page.text)


def test_verdict_that_asked_about_another_host_names_it() -> None:
    verdict = accepted(RELEASE).model_copy(update={"judged_host": "rtx-a4000-16gib"})

    page = version_page(RELEASE, "studio", judged(verdict, "1", "r1"))

    assert ", what if on rtx-a4000-16gib): " in page.text
    assert "what if" not in version_page(RELEASE, "studio", judged(accepted(RELEASE), "1", "r1")).text


def test_vendor_is_told_to_publish_and_studio_to_check() -> None:
    vendor, studio = version_page(RELEASE, "vendor"), version_page(RELEASE, "studio")

    assert "changeover vendor publish acme/person-roto@4.2.0" in vendor.text
    assert "promote" not in vendor.text
    assert "changeover check acme/person-roto@4.2.0" in studio.text
    assert "vendor publish" in model_page(RELEASE, "vendor").text
    assert "request to promote" in model_page(RELEASE, "studio").text


@pytest.mark.parametrize(
    "active", ["![spy](https://e.example/p.png)", "<img src=x>", "[go](https://e)", "`code`", "**bold**"]
)
def test_what_a_vendor_wrote_is_no_markup(active: str) -> None:
    page = version_page(RELEASE.model_copy(update={"changes": active}), "studio")

    assert active not in page.text
    assert "\\" in page.text or "&lt;" in page.text


@pytest.mark.parametrize("letter", ["x", "*", "<", "é"])
def test_long_texts_are_cut_end_with_where_the_whole_is_and_the_whole_is_kept(letter: str) -> None:
    long = RELEASE.model_copy(update={"summary": letter * 4000, "changes": letter * 4000})

    page = version_page(long, "studio", FOUND)

    assert len(page.text) <= MOST_CHARS
    assert page.text.count("(cut here; the whole is in description.md)") == 2
    assert "changeover promote" in page.text
    assert "[Report](#/report)" in page.text
    assert is_ours(page.text)
    (document,) = page.documents().values()
    assert len(document.decode()) > 8000
    assert is_ours(model_page(long, "studio").text)
    assert len(model_page(long, "studio").text) <= MOST_CHARS


def test_half_an_escape_is_never_left() -> None:
    for spare in range(12):
        changes = "x" * spare + "*<" * 1990
        text = version_page(RELEASE.model_copy(update={"changes": changes}), "studio").text
        kept = text.split(" ... (cut here")[0]
        assert not kept.endswith("\\")
        assert kept.count("&") == kept.count(";") or kept.rsplit("&", 1)[1].startswith(("lt;", "gt;", "amp;"))


@pytest.mark.parametrize("words", ["Ask Jane first.", "Changeover writes this page.", "x\n\nmine"])
def test_page_that_a_person_wrote_is_theirs(words: str) -> None:
    assert not is_ours(words)
    assert is_ours("")
    assert is_ours(None)


def test_addresses_of_artifacts_are_relative_to_mlflow() -> None:
    made = judged(accepted(RELEASE), "1", "abc", ("thumbnails/shot 1/plate.jpg",))

    assert made.report == "#/experiments/1/runs/abc/artifacts/report.html"
    assert made.pictures == (("shot 1", "get-artifact?path=thumbnails%2Fshot+1%2Fplate.jpg&run_uuid=abc"),)


def test_long_tag_says_where_the_whole_is() -> None:
    provenance = Provenance(parent_release="p" * 6000)
    tags = release_tags(RELEASE.model_copy(update={"provenance": provenance}))
    reason = verdict_tags(accepted(RELEASE).model_copy(update={"reason": "r" * 6000}))["changeover.reason"]

    assert max(map(len, tags.values())) <= 5000
    assert tags["changeover.parent"].endswith("(cut here; the whole is in release.json)")
    assert reason.endswith("(cut here; the whole is in the report)")


def test_numbers_of_two_releases_are_called_the_same_whatever_their_operating_points_are() -> None:
    verdict = accepted(RELEASE, "0.91")

    series = {one.key: (one.value, one.step) for one in series_values(verdict, 7)}
    keys = {one.key for one in metric_values(verdict)}

    assert series == {"jaccard/shot-010": (0.91, 7), "frame_us": (1500.0, 7)}
    assert set(series) < keys
    assert series_values(verdict.model_copy(update={"points": ()}), 7) == ()


def test_page_that_is_cut_for_its_verdict_alone_names_the_record_since_nothing_else_was_kept() -> None:
    long = RELEASE.model_copy(update={"changes": "x" * 3900})
    assert version_page(long, "studio").documents() == {}

    text = version_page(long, "studio", replace(FOUND, reason="it holds " * 60)).text

    assert len(text) <= MOST_CHARS
    assert "(cut here; the whole is in release.json)" in text
    assert "description.md" not in text


def test_page_of_a_withdrawn_release_says_so_once_below_its_first_words() -> None:
    before = version_page(RELEASE, "studio", FOUND).text

    page = withdrawn_page(before, "edges *tear*")

    assert page is not None
    assert page.split("\n\n")[:2] == [before.split("\n\n")[0], page.split("\n\n")[1]]
    assert page.split("\n\n")[1].endswith("refused from now on:** edges \\*tear\\*")
    assert is_ours(page)
    assert withdrawn_page(page, "edges *tear*") is None


@pytest.mark.parametrize("theirs", [None, "", "My own words.", "x" * MOST_CHARS + version_page(RELEASE, "studio").text])
def test_page_that_is_a_persons_or_full_is_left_as_it_is(theirs: str | None) -> None:
    assert withdrawn_page(theirs, "edges tear") is None


def test_long_reason_of_a_withdrawal_is_cut() -> None:
    page = withdrawn_page(version_page(RELEASE, "studio").text, "x" * 3000)

    assert page is not None
    assert "(cut here; the whole is in changeover status)" in page
