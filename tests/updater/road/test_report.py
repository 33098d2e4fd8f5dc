"""``report``, and what ``check`` leaves for people and for MLflow: a page, a document, and no pixel by default."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from changeover_registry import canonical
from changeover_registry.bom import validate_bom
from changeover_updater.reports import publish
from changeover_updater.studio import read_studio
from changeover_validators.runtimes.sandbox import available

pytestmark = pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine")
pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

NAMES = tuple(f"xq{number}70-crowd" for number in range(6))
"""Names that stand nowhere by chance."""
STARTS_OF_IMAGES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"\x76\x2f\x31\x01", b"II*\0", b"MM\0*")


@pytest.fixture(scope="module")
def studio(module_golden_set: Any) -> Any:
    """A studio whose set belongs to show atlas: it checked 1.0.0, then allowed pictures and checked 1.1.0."""
    world = module_golden_set
    world.ok("golden", "set", "create", "atlas-crowd", "--show", "atlas", "--reader", "site")
    for number, name in enumerate(NAMES):
        folder = world.root / "shots" / f"sh{number}"
        world.ok(
            *("golden", "add", "atlas-crowd", name, "--plate", str(folder / "plate.####.exr")),
            *("--matte", str(folder / "matte.####.exr"), "--channel", "A", "--colour", "scene-linear"),
            *("--approved-by", "Jane Doe", "--note", f"{name} is right"),
        )
    world.publish("1.0.0")
    first = checked(world, "tiny-roto@1.0.0")
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    world.ok("update")
    policy = world.site.root / "policy.toml"
    text = policy.read_text(encoding="utf-8")
    policy.write_text(text.replace("[licence]", "mlflow_pictures = true\n[licence]", 1), encoding="utf-8")
    world.ok("promote", "--policy", "--reason", "let MLflow have pictures")
    world.publish("1.1.0")
    return SimpleNamespace(world=world, plain=first, pictured=checked(world, "tiny-roto@1.1.0"))


def checked(world: Any, release: str) -> Any:
    code, out, err = world.run("check", release, "--set", "atlas-crowd", "--json")
    assert code == 0, err + out
    assert "note:" not in err
    return json.loads(out)


def kept_by_mlflow(world: Any, digest: str) -> Any:
    """The run of a verdict in the studio's real MLflow, with every artifact by path."""
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    uri = f"sqlite:///{world.site.root / 'mlflow' / 'mlflow.db'}"
    client = MlflowClient(uri)
    runs = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    (run,) = [run for run in runs if run.data.tags.get("changeover.envelope") == digest]
    folder = Path(download_artifacts(artifact_uri=run.info.artifact_uri, tracking_uri=uri))
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return SimpleNamespace(data=run.data, files=files)


def images_in(data: bytes) -> list[bytes]:
    """The first bytes of every image in a file: the file itself, or what stands in it as base64."""
    found = [data] if data.startswith(STARTS_OF_IMAGES) else []
    for word in re.findall(rb"[A-Za-z0-9+/]{64,}={0,2}", data):
        plain = base64.b64decode(word[: len(word) // 4 * 4])
        found += [plain[:8]] if plain.startswith(STARTS_OF_IMAGES) else []
    return found


def everything(world: Any, verdict: Any) -> dict[str, bytes]:
    """All that leaves the owner's show: the site's page and document, and what MLflow has, tags and names too."""
    kept = kept_by_mlflow(world, verdict["verdict"])
    words = json.dumps([kept.data.tags, list(kept.data.metrics), list(kept.files)]).encode()
    reports = world.site.root / "reports"
    return {
        **kept.files,
        "tags and metrics": words,
        "site.html": (reports / f"{verdict['verdict']}.html").read_bytes(),
        "site.json": (reports / f"{verdict['verdict']}.json").read_bytes(),
    }


def test_no_pixel_reaches_mlflow_by_default(studio: Any) -> None:
    kept = kept_by_mlflow(studio.world, studio.plain["verdict"])

    assert sorted(kept.files) == ["bom.cdx.json", "report.html", "report.json"]
    assert {path: images_in(data) for path, data in kept.files.items() if images_in(data)} == {}


def test_pictures_reach_mlflow_where_the_policy_says_so(studio: Any) -> None:
    kept = kept_by_mlflow(studio.world, studio.pictured["verdict"])
    whole = {f"pictures/shot-1/{kind}.png" for kind in ("truth", "current", "candidate", "difference")}

    assert whole <= set(kept.files)
    assert all(images_in(data) for path, data in kept.files.items() if path.startswith("pictures/"))
    assert len(images_in(kept.files["report.html"])) == 6 * 10 + 3 * 2
    assert images_in(kept.files["report.json"]) == []
    # The set belongs to a show: its shots stand in its report, and on nobody's page.
    assert not any(path.startswith("thumbnails/") for path in kept.files)


@pytest.mark.parametrize("which", ["plain", "pictured"])
def test_outside_the_owners_show_aliases_stand_for_names_everywhere(studio: Any, which: str) -> None:
    outside = everything(studio.world, getattr(studio, which))

    assert {path: name for path, data in outside.items() for name in NAMES if name.encode() in data} == {}
    assert all(b"shot-1" in outside[path] for path in ("site.html", "site.json", "report.html", "tags and metrics"))


def test_mlflow_has_every_metric_of_every_shot_by_alias_for_candidate_and_current(studio: Any) -> None:
    data = kept_by_mlflow(studio.world, studio.pictured["verdict"]).data
    prefix = "onnx-fp32/none/cpu"
    scores = studio.pictured["points"][0]["scores"]

    at_the_point = [name for name in data.metrics if name.startswith(f"{prefix}/")]
    assert len(at_the_point) == 2 * len(scores) + 1
    assert len(data.metrics) - len(at_the_point) == len(scores) + 1
    assert data.metrics["mad.rvm/shot-6"] == data.metrics[f"{prefix}/mad.rvm/shot-6"]
    assert f"{prefix}/mad.rvm/shot-6/current" in data.metrics
    assert data.tags["changeover.decision"] == "accept"
    assert data.tags["changeover.sandbox"] == studio.pictured["sandbox"]


def test_bill_of_materials_has_the_numbers_that_mlflow_has_by_alias(studio: Any, tmp_path: Path) -> None:
    digest = studio.pictured["verdict"]

    out = studio.world.ok("report", digest, "--bom", str(tmp_path / "bom.json"))

    kept, bill = kept_by_mlflow(studio.world, digest), (tmp_path / "bom.json").read_bytes()
    assert str(tmp_path / "bom.json") in out
    assert kept.files["bom.cdx.json"] == bill
    validate_bom(bill, where="bom.json")
    assert not any(name.encode() in bill for name in NAMES)
    metrics = json.loads(bill)["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    of_shots = [m for m in metrics if m["slice"].startswith("shot-") and " of the current " not in m["type"]]
    assert {metric["slice"] for metric in of_shots} == {f"shot-{number}" for number in range(1, 7)}
    told = {key.rpartition("/")[2] + " " + f"{value:.9f}" for key, value in kept.data.metrics.items()}
    assert {f"{metric['slice']} {float(metric['value']):.9f}" for metric in of_shots} <= told
    assert any("confidenceInterval" in m for m in metrics if m["slice"] == "all 6 shots of atlas-crowd")


def test_bill_of_a_verdict_never_takes_the_place_of_a_folder(studio: Any, tmp_path: Path) -> None:
    code, out, err = studio.world.run("report", "--bom", str(tmp_path))

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--bom" in err


def test_report_prints_where_the_sites_page_is_and_makes_it_anew(studio: Any) -> None:
    world, digest = studio.world, studio.pictured["verdict"]
    page = world.site.root / "reports" / f"{digest}.html"
    before = page.read_bytes()
    page.unlink()

    out = world.ok("report", digest[:10])

    assert str(page) in out
    assert page.read_bytes() == before


@pytest.mark.parametrize(("asked", "which"), [((), "pictured"), (("tiny-roto@1.0.0",), "plain")])
def test_report_without_a_digest_is_of_the_newest_verdict(studio: Any, asked: tuple[str, ...], which: str) -> None:
    assert getattr(studio, which)["verdict"] in studio.world.ok("report", *asked)


def test_report_for_the_owners_show_has_the_names(studio: Any, tmp_path: Path) -> None:
    page = tmp_path / "atlas.html"

    out = studio.world.ok("report", studio.pictured["verdict"], "--show", "atlas", "--out", str(page))

    text = page.read_text(encoding="utf-8")
    assert str(page) in out
    assert all(name in text for name in NAMES)
    assert images_in(text.encode())


def test_report_for_another_show_has_aliases(studio: Any, tmp_path: Path) -> None:
    page = tmp_path / "other.html"

    studio.world.ok("report", studio.pictured["verdict"], "--show", "bounty", "--out", str(page))

    assert not any(name in page.read_text(encoding="utf-8") for name in NAMES)


def test_report_without_pictures_has_none(studio: Any, tmp_path: Path) -> None:
    page = tmp_path / "small.html"

    studio.world.ok("report", studio.pictured["verdict"], "--no-pictures", "--out", str(page))

    assert images_in(page.read_bytes()) == []
    assert b"This copy holds no pictures" in page.read_bytes()


def test_report_as_json_is_the_canonical_document_of_the_site(studio: Any) -> None:
    digest = studio.pictured["verdict"]

    out = studio.world.ok("report", digest, "--json")

    document = (studio.world.site.root / "reports" / f"{digest}.json").read_bytes()
    assert out.encode() == document + b"\n"
    shots = canonical.loads(document, where="test")["points"][0]["shots"]
    assert [shot["label"] for shot in shots if len(shot["curves"]) > 10] == [shot["label"] for shot in shots]


def test_policy_that_changed_since_still_says_what_was_in_force(studio: Any) -> None:
    world, digest = studio.world, studio.plain["verdict"]
    then = world.site.root / "reports" / f"policy-{studio.plain['policy']}.toml"
    document = json.loads(world.ok("report", digest, "--json"))

    kept = then.read_bytes()
    then.write_bytes(kept.replace(b"margin_mad = 0.005", b"margin_mad = 0.5"))
    altered = json.loads(world.ok("report", digest, "--json"))
    then.write_bytes(kept)

    limits = {limit["name"]: limit for limit in document["limits"]}
    assert limits["golden.margin_mad"]["value"] == "0.005"
    assert studio.plain["policy"][:12] in limits["golden.margin_mad"]["origin"]
    assert studio.plain["policy"] != studio.pictured["policy"]
    assert altered["limits"] == []


def test_scores_and_pictures_that_are_not_the_signed_ones_are_left_out(studio: Any) -> None:
    world, digest = studio.world, studio.pictured["verdict"]
    first, second = sorted(world.site.scores.glob("??/*/scores.json"))[:2]
    picture = second.with_name("plate.png")
    before = {path: path.read_bytes() for path in (first, picture)}
    whole = studio.pictured["points"][0]["scored"]
    ours = {ref["key"] for ref in whole}

    first.write_bytes(before[first].replace(b'"replaced":0', b'"replaced":7'))
    picture.write_bytes(before[picture] + b"x")
    shots = json.loads(world.ok("report", digest, "--json"))["points"][0]["shots"]
    world.ok("report", digest)
    for path, data in before.items():
        path.write_bytes(data)

    assert ours >= {shot["key"] for shot in shots if shot.get("key")}
    assert all(shot["replaced"] == 0 for shot in shots)
    assert all(len(shot["scores"]) > 10 for shot in shots)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes")
def test_report_never_takes_the_place_of_a_pipe_or_a_folder(studio: Any, tmp_path: Path) -> None:
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for place in (pipe, folder):
        code, out, err = studio.world.run("report", "--out", str(place))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "a file, or a name that is free" in err
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) in ([pipe, folder], [folder, pipe])


@pytest.mark.parametrize("flags", [("--no-pictures",), ("--show", "atlas")])
def test_report_that_is_not_for_everybody_needs_a_file(studio: Any, flags: tuple[str, ...]) -> None:
    code, out, err = studio.world.run("report", *flags)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--out" in err


@pytest.mark.parametrize("asked", ["feedfacefeedface", "tiny-roto@9.9.9"])
def test_report_of_a_verdict_that_nobody_made_is_one_line(studio: Any, asked: str) -> None:
    code, out, err = studio.world.run("report", asked)

    assert (code, out, err.count("\n")) == (2, "", 1)


def test_report_of_a_release_that_nobody_checked_names_the_command(studio: Any) -> None:
    studio.world.publish("1.2.0")

    code, _, err = studio.world.run("report", "tiny-roto@1.2.0")

    assert code == 2
    assert "changeover check tiny-roto@1.2.0" in err


def test_mlflow_that_is_down_costs_a_notice_and_the_report_is_there(studio: Any, tmp_path: Path) -> None:
    world, digest = studio.world, studio.plain["verdict"]
    page = world.site.root / "reports" / f"{digest}.html"
    page.unlink()
    kept = (world.site.root / "site.toml").read_bytes()
    heard: list[str] = []

    world.without_mlflow()
    written = publish(world.site, read_studio(world.site, world.station), digest, heard.append)
    (world.site.root / "site.toml").write_bytes(kept)

    assert written == page
    assert page.is_file()
    assert [line.partition(":")[0] for line in heard] == ["MLflow was not told"]


def test_site_that_cannot_be_written_costs_a_notice_and_no_verdict(studio: Any) -> None:
    world, digest = studio.world, studio.plain["verdict"]
    reports, aside = world.site.root / "reports", world.site.root / "aside"
    reports.rename(aside)
    reports.write_bytes(b"in the way")
    heard: list[str] = []

    written = publish(world.site, read_studio(world.site, world.station), digest, heard.append)
    reports.unlink()
    aside.rename(reports)

    assert written is None
    assert len(heard) == 1
    assert heard[0].startswith("no report was made: ")
    assert "changeover report" in heard[0]


def test_verdict_that_no_enrolled_key_signed_has_no_report(studio: Any) -> None:
    world = studio.world
    forged = world.site.file_verdict(b"{}")
    heard: list[str] = []

    written = publish(world.site, read_studio(world.site, world.station), forged, heard.append)
    (world.site.verdicts / f"{forged}.json").unlink()

    assert written is None
    assert heard[0].startswith("no report was made: ")


def test_without_jinja2_the_line_names_the_extra_that_brings_it(studio: Any) -> None:
    world, digest = studio.world, studio.plain["verdict"]
    code = "import sys; sys.modules['jinja2'] = None; from changeover_updater.cli.main import main; main()"
    words = ["--config", str(world.config), *world.extra, "report", digest]

    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "changeover[run]" in done.stderr


def test_verdict_on_a_set_of_nobodys_is_kept_signed_and_by_name_in_the_site_alone(studio: Any) -> None:
    world = studio.world
    out = world.ok("check", "tiny-roto@1.1.0", "--set", "hero")
    digest = re.findall(r"report: .+/([0-9a-f]{64})\.html", out)[0]

    page = (world.site.root / "reports" / f"{digest}.html").read_text(encoding="utf-8")
    kept = kept_by_mlflow(world, digest)

    assert ">sh3 <small>shot-4</small>" in page
    assert kept.files["verdict.dsse.json"] == (world.site.verdicts / f"{digest}.json").read_bytes()
    assert b">shot-4</h3>" in kept.files["report.html"]
