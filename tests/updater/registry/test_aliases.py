"""MLflow's aliases show the choice; one that a person moves is a request, shown by doctor and followed by nobody."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from changeover_registry.mlflow_adapter.registry import MovedAlias
from changeover_updater.records import alias_requests, promoted_now
from changeover_updater.studio import read_choices

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

NAME = "acme.tiny-roto"


@pytest.fixture(scope="module")
def shared(module_world: Any) -> Any:
    """Two releases that MLflow knows, both accepted."""
    first, second = module_world.publish("1.0.0"), module_world.publish("1.1.0")
    module_world.ok("sync")
    module_world.accept(first)
    module_world.accept(second, first)
    return module_world


@pytest.fixture
def studio(shared: Any) -> Iterator[Any]:
    """The first release promoted, whatever a test before this one asked for or made."""
    config = shared.site.root / "site.toml"
    before = config.read_bytes()
    shared.ok("promote", "tiny-roto@1.0.0", "--reason", "the first")
    yield shared
    config.write_bytes(before)
    for alias in {*aliases(shared)} - {"stable"}:
        move(shared, alias, None)


def aliases(studio: Any) -> dict[str, str]:
    """Each alias with the release version that it names."""
    with mlflow_of(studio) as client:
        found = client.get_registered_model(NAME).aliases
        named = {
            str(one.version): one.tags["changeover.version"] for one in client.search_model_versions(f"name='{NAME}'")
        }
        return {alias: named[str(number)] for alias, number in found.items()}


def mlflow_of(studio: Any) -> Any:
    from changeover_registry.mlflow_adapter.registry import Registry

    return Registry(studio.site.mlflow_uri())._session()


def move(studio: Any, alias: str, version: str | None) -> None:
    """What a person does in MLflow's page."""
    with mlflow_of(studio) as client:
        if version is None:
            client.delete_registered_model_alias(NAME, alias)
            return
        (found,) = client.search_model_versions(f"name='{NAME}' and tags.`changeover.version` = '{version}'")
        client.set_registered_model_alias(NAME, alias, found.version)


def unplug(studio: Any) -> None:
    """Have the studio's MLflow be a server that is not running."""
    path = studio.site.root / "site.toml"
    text = path.read_text(encoding="utf-8")
    assert 'mlflow = "sqlite"' in text
    path.write_text(text.replace('mlflow = "sqlite"', 'mlflow = "http://127.0.0.1:9"'), encoding="utf-8")


def asked(studio: Any) -> tuple[MovedAlias, ...]:
    return alias_requests(studio.site, read_choices(studio.site, studio.station))


def told(studio: Any) -> list[dict[str, Any]]:
    _, out, err = studio.run("doctor", "--json")
    assert out, err
    return [one for one in json.loads(out)["health"] if one["subject"] == "request to promote"]


def test_promotion_draws_its_alias_and_the_next_one_moves_it(studio: Any) -> None:
    assert aliases(studio) == {"stable": "1.0.0"}

    studio.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")

    assert aliases(studio) == {"stable": "1.1.0"}
    assert asked(studio) == ()


def test_rollback_of_a_channel_draws_its_alias(studio: Any) -> None:
    studio.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")

    studio.ok("rollback", "--channel", "stable", "--reason", "holes in hair")

    assert aliases(studio) == {"stable": "1.0.0"}


def test_alias_moved_by_hand_is_a_request_that_doctor_shows_and_nothing_follows(studio: Any) -> None:
    before = read_choices(studio.site, studio.station)

    move(studio, "stable", "1.1.0")
    studio.ok("sync")

    assert asked(studio) == (MovedAlias("acme/tiny-roto", "stable", "stable", "1.1.0", "1.0.0"),)
    (request,) = told(studio)
    assert "the alias points at acme/tiny-roto@1.1.0, the choice says acme/tiny-roto@1.0.0" in request["found"]
    assert "who cannot be known" in request["found"]
    assert "changeover promote acme/tiny-roto@1.1.0 --channel stable" in request["remedy"]
    assert aliases(studio) == {"stable": "1.1.0"}, "a request stands until it is answered"
    assert [one.channels for one in read_choices(studio.site, studio.station)] == [one.channels for one in before]
    out = json.loads(studio.ok("plan", "--json"))
    assert "1.1.0" not in json.dumps(out.get("arrivals", []))


@pytest.mark.parametrize("answer", ["1.1.0", "1.0.0"])
def test_promotion_of_that_channel_answers_the_request_either_way(studio: Any, answer: str) -> None:
    move(studio, "stable", "1.1.0")

    studio.ok("promote", f"tiny-roto@{answer}", "--reason", "decided")

    assert aliases(studio) == {"stable": answer}
    assert asked(studio) == ()


def test_alias_made_or_taken_away_by_hand_is_a_request_too(studio: Any) -> None:
    move(studio, "show-atlas", "1.1.0")
    move(studio, "stable", None)
    move(studio, "favourite", "1.0.0")

    assert asked(studio) == (
        MovedAlias("acme/tiny-roto", "show-atlas", "show/atlas", "1.1.0", None),
        MovedAlias("acme/tiny-roto", "stable", "stable", None, "1.0.0"),
    )


def test_alias_that_was_not_drawn_is_drawn_by_the_next_sync(studio: Any) -> None:
    config = (studio.site.root / "site.toml").read_text(encoding="utf-8")
    unplug(studio)
    code, _, err = studio.run("promote", "tiny-roto@1.1.0", "--reason", "sharper")
    assert code == 0
    assert "MLflow was not told" in err
    assert "no connection" in err
    (studio.site.root / "site.toml").write_text(config, encoding="utf-8")
    assert (aliases(studio), asked(studio)) == ({"stable": "1.0.0"}, ())

    studio.ok("sync")

    assert aliases(studio) == {"stable": "1.1.0"}


def test_silent_mlflow_is_told_by_doctor_and_harms_nothing(studio: Any) -> None:
    unplug(studio)

    _, out, _ = studio.run("doctor", "--json")

    (silent,) = [one for one in json.loads(out)["health"] if one["subject"] == "MLflow"]
    assert "no connection" in silent["found"]


def test_only_a_promotion_names_the_pointer_that_it_was_written_for(studio: Any) -> None:
    def promoted() -> list[str]:
        (site,) = (one for one in read_choices(studio.site, studio.station) if one.scope == "site")
        return [one.release.version for one in promoted_now(site)]

    assert promoted() == ["1.0.0"]

    studio.ok("pin", "tiny-roto@1.0.0", "--reason", "delivered")

    assert promoted() == []


def test_show_channel_has_an_alias_without_a_slash(studio: Any) -> None:
    studio.ok("promote", "tiny-roto@1.0.0", "--channel", "show/atlas", "--reason", "for the show")

    assert aliases(studio) == {"stable": "1.0.0", "show-atlas": "1.0.0"}


def test_release_that_mlflow_does_not_know_is_not_drawn(world: Any) -> None:
    release = world.publish("1.0.0")
    world.accept(release)

    world.ok("promote", "tiny-roto@1.0.0", "--reason", "the first")

    assert not (world.site.root / "mlflow" / "mlflow.db").exists(), "nobody waits for an MLflow that knows nothing"


@pytest.fixture
def nonsense(studio: Any) -> Iterator[Any]:
    """What somebody who may write in MLflow has made there beside the studio's own."""
    names = ("o'neil", "aa.bb' or '1'='1", "none.\x1b[31mred")
    with mlflow_of(studio) as client:
        for name in names:
            client.create_registered_model(name, tags={"changeover.model": name})
            client.create_model_version(name, source="file:///nowhere")
            client.set_registered_model_alias(name, "stable", 1)
    yield studio
    with mlflow_of(studio) as client:
        for name in names:
            client.delete_registered_model(name)


def test_what_calls_itself_a_model_and_cannot_be_one_hides_no_request_and_ends_no_audit(nonsense: Any) -> None:
    move(nonsense, "stable", "1.1.0")

    _, out, _ = nonsense.run("audit", "mlflow", "--json")

    assert MovedAlias("acme/tiny-roto", "stable", "stable", "1.1.0", "1.0.0") in asked(nonsense)
    assert {one.model for one in asked(nonsense)} == {"acme/tiny-roto"}
    assert [part["trouble"] for part in json.loads(out)["parts"]] == [None]


@pytest.fixture
def by_hand(studio: Any) -> Iterator[str]:
    """The number of a version that somebody made in MLflow's page."""
    with mlflow_of(studio) as client:
        made = client.create_model_version(NAME, source="file:///nowhere").version
    yield str(made)
    with mlflow_of(studio) as client:
        client.delete_model_version(NAME, str(made))


def test_alias_at_what_is_no_release_is_told_with_a_remedy_that_works(studio: Any, by_hand: str) -> None:
    with mlflow_of(studio) as client:
        client.set_registered_model_alias(NAME, "stable", by_hand)

    (request,) = [one for one in told(studio) if "alias stable" in one["where"]]

    assert f"the alias points at MLflow's version {by_hand}, which is no release" in request["found"]
    assert "take the alias away in MLflow" in request["remedy"]
    assert "promote acme/tiny-roto@1.0.0 there once more" in request["remedy"]
    studio.ok("promote", "tiny-roto@1.0.0", "--reason", "as it was")
    assert [one for one in told(studio) if "alias stable" in one["where"]] == []
