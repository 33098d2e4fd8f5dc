"""What a release's page in MLflow says after a real check: what to run, what was found, a few thumbnails."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from changeover_registry.mlflow_adapter.registry import Registry
from changeover_registry.repository import vendor

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

NAME = "acme.tiny-roto"


@pytest.fixture(scope="module")
def studio(module_world: Any, add_shots: Callable[..., None]) -> Any:
    """A studio that lets MLflow have pictures, has a set that belongs to no show, and checked one release on it."""
    world = module_world
    add_shots(world, "hero", (2, 2))
    policy = world.site.root / "policy.toml"
    text = policy.read_text(encoding="utf-8")
    policy.write_text(text.replace("[licence]", "mlflow_pictures = true\n[licence]", 1), encoding="utf-8")
    world.ok("promote", "--policy", "--reason", "let MLflow have pictures")
    world.publish("1.0.0")
    world.ok("sync")
    code, out, err = world.run("check", "tiny-roto@1.0.0", "--set", "hero", "--json")
    assert code == 4, err + out  # Two shots are too few to accept.
    return SimpleNamespace(world=world, verdict=json.loads(out))


def client_of(studio: Any) -> Any:
    return Registry(studio.world.site.mlflow_uri())._session()


def test_page_of_a_release_says_what_to_run_and_what_was_found(studio: Any) -> None:
    with client_of(studio) as client:
        page = client.get_model_version(NAME, "1").description
        model = client.get_registered_model(NAME)

    assert "changeover promote acme/tiny-roto@1.0.0 --channel" in page
    assert "**Newest verdict: inconclusive**" in page
    assert studio.verdict["reason"].split(":")[0] in page.replace("\\", "")
    assert "changeover doctor" in model.description
    assert model.tags["changeover.model"] == "acme/tiny-roto"


def test_page_shows_thumbnails_that_the_run_really_has(studio: Any, tmp_path: Path) -> None:
    import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses

    with client_of(studio) as client:
        page = client.get_model_version(NAME, "1").description
        addresses = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page)
        asked = [parse_qs(urlsplit(address).query) for address in addresses]
        (run,) = {one["run_uuid"][0] for one in asked}
        files = [client.download_artifacts(run, one["path"][0], str(tmp_path)) for one in asked]
        (report,) = re.findall(r"\[Report\]\(#/experiments/\d+/runs/([0-9a-f]+)/artifacts/report.html\)", page)
        whole = client.download_artifacts(report, "report.html", str(tmp_path))

    assert len(files) == 4
    sizes = [oiio.ImageBuf(file).spec() for file in files]
    assert all(max(one.width, one.height) <= 160 for one in sizes)
    assert all(Path(file).stat().st_size < 20_000 for file in files)
    assert Path(whole).read_text(encoding="utf-8").startswith("<!")


def test_page_of_a_release_that_was_taken_back_says_so_after_the_next_sync(studio: Any) -> None:
    world = studio.world
    vendor.withdraw(world.repository, world.keys, "tiny-roto", "1.0.0", "edges tear", world.now)
    world.ok("sync")
    with client_of(studio) as client:
        page = client.get_model_version(NAME, "1").description
    assert "**Withdrawn by its vendor, refused from now on:** edges tear" in page
    assert "**Newest verdict: inconclusive**" in page
    world.ok("sync")
    with client_of(studio) as client:
        assert client.get_model_version(NAME, "1").description == page
