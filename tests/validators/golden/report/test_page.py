"""The page in a browser: Debian's Chromium, opened from a file as people do, driven by pointer and by keys."""

import dataclasses
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from changeover_registry.records.findings import NotRun, Refused
from changeover_registry.records.policy import GoldenPolicy, Policy
from changeover_validators.golden.report.html import render_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LARGE, SMALL = (1440, 900), (390, 844)
REMEDY = "add golden shots to the set, or: changeover verdict sign-off DIGEST --name NAME --note NOTE"
HOSTILE = "</script><img src=x onerror=alert(1)><script>window.ran=1</script>"


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: "Browser", tmp_path: Path) -> "Iterator[Callable[..., Page]]":
    """Opens a page from a file, and at the end says whether it asked for anything or complained of anything."""
    heard: list[str] = []
    pages: list[Page] = []

    def open_page(text: str, size: tuple[int, int] = LARGE, scheme: Any = "light") -> "Page":
        file = tmp_path / "report.html"
        file.write_text(text, encoding="utf-8")
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        page.on("console", lambda message: heard.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("request", lambda request: heard.append(request.url))
        page.on("dialog", lambda dialog: heard.append(f"dialog {dialog.message}"))
        page.goto(file.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    asked = [line for line in heard if not line.startswith(("data:", "file://")) or not line.endswith(".html")]
    assert [line[:200] for line in asked if not line.startswith("data:")] == []


@pytest.fixture(scope="module")
def rejected(make_story: Callable[..., Any]) -> str:
    """A page of four shots of 24 frames, the second of which breaks a guard."""
    return str(make_story().page())


def clip(page: "Page") -> float:
    """How much of the picture on top is cut off at the right, in per cent."""
    style = page.locator(".wipe .over").first.evaluate("image => getComputedStyle(image).clipPath")
    found = re.fullmatch(r"inset\(0(?:px|%)? ([0-9.]+)(?:%|px) 0(?:px|%)? 0(?:px|%)?\)|inset\(0px\)", style)
    assert found, style
    return float(found[1] or 0)


def test_first_screen_has_the_verdict_its_reason_and_what_it_rests_on(
    opened: "Callable[..., Page]", rejected: str, tmp_path: Path
) -> None:
    page = opened(rejected)
    page.screenshot(path=tmp_path / "first-1440.png")
    seen = page.evaluate(
        """() => [...document.querySelectorAll("header.verdict *, main > section")]
            .filter((element) => element.getBoundingClientRect().bottom < innerHeight)
            .map((element) => element.innerText).join("\\n")"""
    )

    assert all(
        words in seen
        for words in (
            "reject",
            "loses 0.0462 of J",
            "1.1.0",
            "1.0.0",
            "atlas-hair, version 3, 4 shots",
            "2026-11-22 13:45 UTC by ana@ws-042",
            "Worse than 1.0.0 on ",
            "worst: shot-2, Jaccard",
            "the file itself",
            "signed by ana@ws-042",
            "no override, no sign-off",
        )
    )
    assert page.locator("h1").inner_text().startswith("Worse than 1.0.0 on ")
    assert "bubblewrap" not in seen
    assert "bubblewrap" in page.locator(".measured").inner_text()


def test_first_screen_has_the_three_worst_shots_and_leads_to_them(
    opened: "Callable[..., Page]", rejected: str, tmp_path: Path
) -> None:
    page = opened(rejected, (1280, 900))
    page.screenshot(path=tmp_path / "strip-1280.png")
    cards = page.locator(".strip .card")
    lowest = max(box["y"] + box["height"] for card in cards.all() if (box := card.bounding_box()))

    cards.nth(2).click()

    assert (cards.count(), page.locator(".strip img").count()) == (3, 6)
    assert lowest < 900
    assert page.url.endswith("#shot-2")
    assert page.locator(".shot").nth(2).locator("h3").inner_text() == cards.nth(2).locator("b").inner_text()


def test_fold_says_what_every_number_means_as_the_how_to_does(opened: "Callable[..., Page]", rejected: str) -> None:
    how_to = Path(__file__).parents[4] / "docs" / "how-to" / "read-a-report.md"
    table = how_to.read_text(encoding="utf-8").partition("| number |")[2].partition("\n\n")[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()[2:]]
    page = opened(rejected)

    page.get_by_text("How to read this").click()

    told = page.locator(".reading tbody tr").evaluate_all(
        "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    assert len(rows) > 12
    assert [tuple(row) for row in told] == rows
    assert "ratchet" in page.locator(".reading").inner_text()


def test_curve_opens_on_the_metric_that_broke(opened: "Callable[..., Page]", make_story: Callable[..., Any]) -> None:
    boils = Refused(
        check="golden",
        rule="flicker",
        expected="flicker at most 1.5 times that of the truth",
        actual="shot shot-3: flicker 0.115198, 1.92 times as much",
        remedy="ask the vendor",
    )
    page = opened(make_story(findings=(boils,)).page())
    first = {
        shot.locator("h3").inner_text(): shot.locator(".metric").input_value() for shot in page.locator(".shot").all()
    }

    page.locator(".metric").first.select_option("flicker-truth:mean-abs")

    assert first["shot-3"] == "flicker:mean-abs"
    assert first["shot-2"] == "jaccard:davis2017"
    assert page.locator(".hint.better").first.inner_text() == ""


def test_gates_say_their_result_in_words_signs_and_colours(
    opened: "Callable[..., Page]", rejected: str, tmp_path: Path
) -> None:
    page = opened(rejected)
    page.locator(".gates").screenshot(path=tmp_path / "gates.png")
    rows = page.locator(".gates tbody tr")
    colours = rows.locator(".bar").evaluate_all("bars => bars.map((bar) => getComputedStyle(bar).fill)")

    assert rows.locator(".result").all_inner_texts() == ["?", "✓", "✗"]
    assert rows.locator(".state").all_inner_texts() == ["cannot tell", "as good or better", "worse than the margin"]
    assert len(set(colours)) == 3
    assert rows.locator("text").all_text_contents() == ["−0.01", "0", "−0.01", "0", "−0.005", "0"]


def test_too_few_shots_ask_for_a_word_with_the_whole_command(
    opened: "Callable[..., Page]", make_story: Callable[..., Any], tmp_path: Path
) -> None:
    few = NotRun(check="golden", why="golden shots scored: 2", remedy=REMEDY, rule="few-shots")
    story = make_story(shots=2, decision="inconclusive", findings=(few,))
    allowed = Policy(golden=GoldenPolicy(supervisor_review=True))
    asked = dataclasses.replace(story, sources=dataclasses.replace(story.sources, policy=allowed))

    page = opened(asked.page())
    page.screenshot(path=tmp_path / "asked.png")

    command = page.locator(".asked code").inner_text()
    assert command.startswith("changeover verdict sign-off fedcba987654 --name ")
    assert page.locator(".asked li").count() == 3
    assert "changeover verdict sign-off fedcba987654 --name NAME" in page.locator(".finding.not-run").first.inner_text()
    assert story.report().sign_off == ""


def test_wipe_is_dragged_by_pointer(opened: "Callable[..., Page]", rejected: str, tmp_path: Path) -> None:
    page = opened(rejected)
    slider = page.locator(".wipe input[type=range]").first
    slider.scroll_into_view_if_needed()
    box = page.locator(".wipe .stage").first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    assert clip(page) == 50

    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=4)
    page.mouse.move(box["x"] + box["width"] * 0.25, middle, steps=4)
    page.screenshot(path=tmp_path / "wipe.png")
    page.mouse.up()

    assert clip(page) == pytest.approx(75, abs=1)
    edge = page.locator(".wipe .cut").first.bounding_box()
    assert edge is not None
    assert edge["x"] + edge["width"] / 2 == pytest.approx(box["x"] + box["width"] * 0.25, abs=8)


def test_wipe_answers_to_keys_and_says_what_it_shows(opened: "Callable[..., Page]", rejected: str) -> None:
    page = opened(rejected)
    slider = page.locator(".wipe input[type=range]").first
    slider.focus()

    page.keyboard.press("Home")
    at_home = clip(page)
    page.keyboard.press("End")

    assert (at_home, clip(page)) == (100, 0)
    assert slider.get_attribute("aria-valuetext") == "current up to 100 %, then candidate"


def test_wipe_shows_whichever_two_are_chosen(opened: "Callable[..., Page]", rejected: str) -> None:
    page = opened(rejected)

    page.locator(".wipe select[data-side=left]").first.select_option("truth")

    over, under = (page.locator(f".wipe {name}").first for name in (".over", ".under"))
    shot = page.locator(".shot").first
    assert over.get_attribute("src") == shot.locator('.picture[data-kind="truth"] img').get_attribute("src")
    assert under.get_attribute("src") == shot.locator('.picture[data-kind="candidate"] img').get_attribute("src")
    assert over.evaluate("image => image.naturalWidth") == 640


def test_curve_is_read_under_the_pointer(opened: "Callable[..., Page]", rejected: str, tmp_path: Path) -> None:
    page = opened(rejected)
    box = page.locator(".curves .box").first
    box.scroll_into_view_if_needed()
    area = box.bounding_box()
    assert area is not None

    page.mouse.move(area["x"] + area["width"] * 14 / 23, area["y"] + 20)

    tip = page.locator(".tip").first
    values = re.search(r"frame 1015: candidate ([0-9.]+), current ([0-9.]+), second artist", tip.inner_text())
    assert values, tip.inner_text()
    assert float(values[1]) < float(values[2]) - 0.03
    page.screenshot(path=tmp_path / "curve.png")
    page.mouse.move(5, 5)
    assert not tip.is_visible()


def test_curve_answers_to_keys_and_to_another_metric(opened: "Callable[..., Page]", rejected: str) -> None:
    page = opened(rejected)
    plot, tip = page.locator(".plot").first, page.locator(".tip").first
    plot.focus()
    at_worst = plot.get_attribute("aria-valuenow")

    page.keyboard.press("Home")
    first = tip.inner_text()
    page.keyboard.press("ArrowRight")
    second = tip.inner_text()
    page.locator(".metric").first.select_option("dtssd:rvm")
    plot.focus()
    page.keyboard.press("Home")

    assert at_worst == "1015"
    assert first.startswith("frame 1001: candidate 0.97")
    assert second.startswith("frame 1002: ")
    assert "frame 1001: candidate n/a (the frame has no neighbour before it)" in tip.inner_text()
    assert plot.get_attribute("aria-valuetext") == tip.inner_text()
    shown = page.locator(".curves").first.locator("g:not(.off)")
    assert [group.get_attribute("data-metric") for group in shown.all()] == ["dtssd:rvm"]


def test_every_metric_of_a_curve_can_be_chosen(opened: "Callable[..., Page]", rejected: str) -> None:
    page = opened(rejected)
    choice = page.locator(".metric").first
    metrics = choice.evaluate("select => [...select.options].map((option) => option.value)")

    heights = []
    for metric in metrics:
        choice.select_option(metric)
        heights.append(page.locator(".curves").first.locator("g:not(.off) path.candidate").bounding_box())

    assert len(metrics) == 15
    assert all(box is not None and box["width"] > 500 for box in heights)


def test_pixels_are_read_under_the_pointer_and_by_keys(opened: "Callable[..., Page]", rejected: str) -> None:
    page = opened(rejected)
    crops, readout = page.locator(".crops").first, page.locator(".readout").first
    readout.get_by_text("truth").wait_for()
    worst = readout.inner_text()

    crops.focus()
    page.keyboard.press("ArrowLeft")
    beside = readout.inner_text()

    place = re.match(r"worst pixel \((\d+), (\d+)\): plate .+, truth 1\.00, current 1\.00, candidate 0\.\d\d$", worst)
    assert place, worst
    assert beside.startswith(f"pixel ({int(place[1]) - 1}, {place[2]}): ")
    image = page.locator(".crops img").first.bounding_box()
    assert image is not None
    assert (image["width"], image["height"]) == (256, 256)


def test_shots_behind_their_lids_open_when_a_picture_is_clicked(opened: "Callable[..., Page]", rejected: str) -> None:
    page = opened(rejected)
    second = page.locator(".shot").nth(1)
    assert not second.locator(".wipe").is_visible()

    second.locator(".picture img").first.click()

    assert second.locator(".wipe .over").evaluate("image => image.src.length") > 1000
    assert second.locator(".wipe input").evaluate("slider => slider === document.activeElement")


@pytest.mark.parametrize("size", [LARGE, SMALL])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_and_words_can_be_read(
    opened: "Callable[..., Page]", rejected: str, size: tuple[int, int], scheme: str, tmp_path: Path
) -> None:
    page = opened(rejected, size, scheme)
    page.screenshot(path=tmp_path / f"{scheme}-{size[0]}.png", full_page=True)

    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert contrast(ink, paper) > 7
    small = page.evaluate("getComputedStyle(document.querySelector('dt')).color")
    assert contrast(small, paper) > 4.5


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2 of two opaque colours."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_paper_gets_a_summary_and_everything_where_that_is_asked_for(
    opened: "Callable[..., Page]", make_story: Callable[..., Any]
) -> None:
    page = opened(make_story(shots=6).page())
    parts = (".shot", ".contact", ".curves", ".measured")
    closed = page.locator("details:not([open])").count()
    page.emulate_media(media="print")

    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    summary = [
        page.locator(f"{part} >> visible=true").count() for part in (".shot", ".contact", ".curves", ".measured")
    ]
    page.emulate_media(media="screen")
    page.locator("#whole").check()
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    whole = shown(page, *parts)
    left = page.locator("details:not([open])").count()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")

    assert summary == [3, 3, 0, 0]
    assert whole == [6, 6, 6, 1]
    assert (closed > 3, left, page.locator("details:not([open])").count()) == (True, 0, closed)


def shown(page: "Page", *parts: str) -> list[int]:
    """How many of each part can be seen."""
    return [page.locator(f"{part} >> visible=true").count() for part in parts]


def test_what_vendors_and_hosts_write_stays_text(opened: "Callable[..., Page]", make_story: Callable[..., Any]) -> None:
    refused = Refused(check="golden", rule=HOSTILE, expected=HOSTILE, actual=HOSTILE, remedy=HOSTILE)
    story = make_story(shots=1, frames=2, reason=HOSTILE, findings=(refused,), summary=HOSTILE, changes=HOSTILE)
    verdict = story.sources.verdict.model_copy(update={"host": HOSTILE, "made_by": HOSTILE})
    (kept,) = story.sources.scores.values()
    told = tuple(curve.model_copy(update={"why": HOSTILE}) for curve in kept.curves)
    scores = {key: kept.model_copy(update={"curves": told}) for key in story.sources.scores}
    sources = dataclasses.replace(story.sources, verdict=verdict, signer=HOSTILE, scores=scores)

    page = opened(dataclasses.replace(story, sources=sources).page())
    page.locator(".plot").focus()
    page.locator(".metric").select_option("dtssd:rvm")
    page.locator(".plot").focus()
    page.keyboard.press("Home")

    assert page.evaluate("window.ran") is None
    assert page.locator("img[src=x]").count() == 0
    assert page.locator(".reason").inner_text() == HOSTILE
    assert f"n/a ({HOSTILE})" in page.locator(".tip").inner_text()


def test_page_forbids_what_it_does_not_hold_itself(browser: "Browser", rejected: str, tmp_path: Path) -> None:
    file = tmp_path / "altered.html"
    altered = rejected.replace("</main>", "<img src=x onerror='window.ran=1'><script>window.ran=1</script></main>")
    file.write_text(altered, encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())

    assert page.evaluate("window.ran") is None
    assert page.locator(".plot").first.is_visible()
    page.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": "accept", "baseline": False, "second": False},
        {"decision": "inconclusive", "shots": 2, "frames": 1},
        {"decision": "error", "shots": 0, "baseline": False, "reason": "golden could not be measured"},
    ],
    ids=["accept without a baseline", "inconclusive on one frame", "error without a shot"],
)
def test_other_verdicts_open_without_a_complaint(
    opened: "Callable[..., Page]", make_story: Callable[..., Any], changes: Any
) -> None:
    page = opened(make_story(**changes).page())

    assert changes["decision"] in page.locator(".decision").inner_text()


def test_copy_without_pictures_has_curves_and_says_so(
    opened: "Callable[..., Page]", make_story: Callable[..., Any]
) -> None:
    page = opened(make_story(shots=2).page(pictures=False))

    assert page.locator("img").count() == 0
    assert page.get_by_text("This copy holds no pictures").is_visible()
    assert page.locator(".plot").first.is_visible()


def test_forty_shots_of_three_hundred_frames_open_and_answer(
    opened: "Callable[..., Page]", make_story: Callable[..., Any]
) -> None:
    report = make_story(shots=4, frames=300, shown=False).report()
    forty = dataclasses.replace(report.points[0], shots=report.points[0].shots * 10)
    text = render_html(dataclasses.replace(report, points=(forty,)))

    page = opened(text)
    last = page.locator(".plot").last
    last.focus()
    page.keyboard.press("End")

    assert page.locator(".shot").count() == 40
    assert page.locator(".tip").last.inner_text().startswith("frame 1300: ")
    assert len(text) < 10_000_000
