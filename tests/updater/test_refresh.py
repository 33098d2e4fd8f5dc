"""A vendor of 50,000 published files, over a real HTTP server: who follows one model fetches what that one needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from changeover_registry import clock
from changeover_registry.client import Client
from changeover_registry.errors import InvalidInputError
from changeover_registry.repository import vendor
from changeover_registry.repository.vendor import VendorKeys
from changeover_registry.transport import open_transport
from changeover_updater.bench_refresh import Served, large_vendor, publish_one, serving
from changeover_updater.site import Site
from changeover_updater.vendors import add_trust, sync_vendor

NOW = clock.now()


@dataclass
class Large:
    """The vendor, its server, and a studio's site that knows nobody yet."""

    base: Path
    keys: VendorKeys
    served: Served

    @property
    def site(self) -> Site:
        return Site(self.base / "site")

    @property
    def root(self) -> bytes:
        return self.keys.anchor.read_bytes()

    def trust(self, *models: str) -> None:
        location = self.served.location
        add_trust(self.site, "acme", location, self.root, allow_executable=False, who="td", now=NOW, models=models)

    def sync(self) -> list[str]:
        return [str(release.ref().model) for release in sync_vendor(self.site.vendor("acme")).new]


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Large]:
    keys = large_vendor(tmp_path, models=100, releases=20, files=25, now=NOW)
    Site.create(tmp_path / "site")
    with serving(tmp_path / "repository") as served:
        yield Large(tmp_path, keys, served)


def test_one_model_of_fifty_thousand_files_costs_less_than_200_kb(large: Large) -> None:
    large.trust("model-005")
    _, to_trust = large.served.take()
    assert large.sync() == ["acme/model-005"] * 20
    assert not [path for path, _ in large.served.requests if "model-" in path and "model-005" not in path]
    _, first = large.served.take()
    assert to_trust + first < 200_000

    assert large.sync() == []
    assert large.served.take()[1] < 1_000
    publish_one(large.base, large.keys, "model-006", 100, NOW)
    assert large.sync() == []
    publish_one(large.base, large.keys, "model-005", 100, NOW)
    assert large.sync() == ["acme/model-005"]
    assert large.served.take()[1] < 50_000

    station = Client(open_transport(str(large.site.vendor("acme").mirror)), large.base / "station", large.root)
    view = vendor.open_vendor(station, "acme", ("model-005",))
    assert [len(index.releases) for index in view.indexes.values()] == [21]


def test_a_model_that_the_vendor_does_not_have_cannot_be_followed(large: Large) -> None:
    with pytest.raises(InvalidInputError, match="acme/hair: expected one of model-000"):
        large.trust("model-005", "hair")
    assert large.site.vendors() == ()
