import base64
import json
import shutil
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import canonical, clock, signing
from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.records.release import FileEntry
from changeover_registry.records.verdict import ShotScore
from changeover_registry.repository import choice as choice_repository
from changeover_registry.repository import vendor
from changeover_updater import vendors
from changeover_updater.choose import Change, promote
from changeover_updater.initialise import Request, initialise
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_updater.studio import LIMIT_BYTES, Studio, choice_history, read_studio, read_verdicts
from changeover_validators.golden.catalogue import METRICS

DATA = b"abc"


@dataclass(frozen=True)
class Place:
    """A site, a station and a vendor in folders, signed today."""

    root: Path
    build: Any
    now: Any

    @property
    def site(self) -> Site:
        return Site(self.root / "site")

    @property
    def station(self) -> Station:
        return Station(Store(self.root / "store"), "vm1")

    @property
    def repository(self) -> Path:
        return self.root / "vendor"

    def keys(self) -> vendor.VendorKeys:
        return vendor.new_vendor_keys(self.root / "vendor-keys")

    def release(self, version: str = "1.0.0", model: str = "acme/person-roto") -> Any:
        digest = sha256(DATA).hexdigest()
        file = FileEntry(path="model.onnx", size=3, sha256=digest, blocks=(digest,))
        return self.build.release(version, model=model, variants=(self.build.variant(files=(file,)),))

    def publish(self, release: Any) -> Any:
        path = self.root / "model.onnx"
        path.write_bytes(DATA)
        digest = sha256(DATA).hexdigest()
        vendor.publish(self.repository, self.keys(), release.to_bytes(), {digest: path}, self.now)
        vendors.sync_vendor(self.site.vendor("acme"))
        return release

    def studio(self) -> Studio:
        return read_studio(self.site, self.station)

    def file_verdict(self, release: Any, key: str = "online/verdict", **changes: Any) -> str:
        verdict = self.build.verdict(release, **changes).verdict
        signer = signing.load_signer(self.root / "keys" / f"{key}.pem")
        return self.site.file_verdict(signing.sign_envelope(verdict.to_bytes(), "verdict", signer))


@pytest.fixture
def place(tmp_path: Path, build: Any) -> Place:
    made = Place(tmp_path, build, clock.now())
    request = Request(
        site=tmp_path / "site",
        store=tmp_path / "store",
        station="vm1",
        keys=tmp_path / "keys",
        config=tmp_path / "host.toml",
        nuke_json=None,
        who="td",
        now=made.now,
    )
    initialise(request, pytest.fail)
    root = vendor.create(made.repository, "acme", made.keys(), made.now)
    where = str(made.repository)
    vendors.add_trust(made.site, "acme", where, root, allow_executable=False, who="td", now=made.now)
    return made


def test_vendor_that_was_never_synced_has_no_releases(place: Place) -> None:
    studio = place.studio()

    assert (studio.releases(), studio.vendors[0].error) == ((), None)
    assert studio.policy.channel == "stable"
    assert studio.policy_digest == canonical.digest(place.site.policy_bytes())


def test_synced_release_is_known_by_its_whole_digest(place: Place) -> None:
    release = place.publish(place.release())
    studio = place.studio()

    assert studio.releases() == (release,)
    assert studio.release(release.ref()) == release
    assert studio.release(release.ref().model_copy(update={"digest": "0" * 64})) is None
    assert studio.vendor_of(release) == studio.vendor("acme/person-roto") == studio.vendors[0]
    assert studio.vendor("evil/person-roto") is None
    assert studio.vendors[0].withdrawn(release.ref()) is None


def test_withdrawn_release_says_why(place: Place) -> None:
    release = place.publish(place.release())
    vendor.withdraw(place.repository, place.keys(), "person-roto", "1.0.0", "leaks hair", place.now)
    vendors.sync_vendor(place.site.vendor("acme"))

    assert place.studio().vendors[0].withdrawn(release.ref()) == "leaks hair"


def test_record_with_one_byte_changed_takes_its_vendor_out_and_nothing_else(place: Place) -> None:
    release = place.publish(place.release())
    path = place.site.vendor("acme").record_path(release.digest())
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"1.0.0", b"1.0.1"))

    (state,) = place.studio().vendors

    assert isinstance(state.error, TrustError)
    assert str(path) in str(state.error)
    assert state.releases == ()
    with pytest.raises(TrustError):
        place.studio().model("person-roto")


def test_record_of_another_model_or_version_than_its_index_says_is_not_believed(place: Place) -> None:
    """A vendor's index may list a digest whose record was brought here under another name."""
    from changeover_registry.records.repository import Index
    from changeover_updater.studio import _records

    release = place.publish(place.release())
    (index,) = place.studio().vendors[0].indexes
    folder = place.site.vendor("acme")
    renamed = Index(vendor="acme", name="sky-roto", releases=index.releases)
    moved = index.model_copy(update={"releases": (index.releases[0].model_copy(update={"version": "9.0.0"}),)})

    assert _records(folder, (index,), []) == (release,)
    for forged in (renamed, moved):
        with pytest.raises(TrustError, match="found acme/person-roto@1.0.0"):
            _records(folder, (forged,), [])


def test_record_that_is_not_here_yet_is_left_out(place: Place) -> None:
    release = place.publish(place.release())
    place.site.vendor("acme").record_path(release.digest()).unlink()

    assert place.studio().vendors[0].releases == ()


def test_vendor_whose_root_was_exchanged_does_not_verify(place: Place) -> None:
    place.publish(place.release())
    (place.site.vendor("acme").root / "root.json").write_bytes(b"{}")

    assert isinstance(place.studio().vendors[0].error, TrustError)


def test_entry_of_another_vendor_is_refused(place: Place) -> None:
    shutil.copytree(place.site.root / "trust" / "acme", place.site.root / "trust" / "evil")

    with pytest.raises(TrustError, match="expected the entry of evil, found the entry of acme"):
        place.studio()


def test_trust_that_a_kill_left_half_made_or_half_removed_counts_for_nothing(place: Place) -> None:
    place.publish(place.release())
    folder = place.site.vendor("acme").root
    for name in (".removed-acme", ".new-acme"):
        folder.rename(folder.with_name(name))
        assert place.site.vendors() == ()
        assert place.studio().releases() == ()
        folder.with_name(name).rename(folder)
    assert [found.vendor for found in place.site.vendors()] == ["acme"]


def test_changed_policy_is_refused_with_5(place: Place) -> None:
    path = place.site.root / "policy.toml"
    path.write_bytes(path.read_bytes() + b"# a remark\n")

    with pytest.raises(TrustError, match="expected the signed policy") as caught:
        place.studio()

    assert "changeover promote --policy" in caught.value.remedy


def test_choices_are_read_with_their_past(place: Place) -> None:
    release = place.publish(place.release())
    keys = choice_repository.StudioKeys.in_folder(place.root / "keys")
    change = Change(who="td", when=clock.format_time(place.now), why="test")
    choice_repository.enrol_scope(place.site.choice, keys, "shows/atlas", place.now)
    for scope, channel in (("site", "stable"), ("shows/atlas", "show/atlas")):
        choice_repository.write(
            place.site.choice,
            keys,
            scope,
            lambda last, channel=channel: promote(last, channel, release.ref(), None, change),  # type: ignore[misc]
            place.now,
        )

    assert [(c.scope, c.number) for c in place.studio().choices] == [("site", 2), ("shows/atlas", 1)]
    assert sorted((c.scope, c.number) for c in choice_history(place.site)) == [
        ("shows/atlas", 1),
        ("site", 1),
        ("site", 2),
    ]


def test_verdicts_are_newest_first_and_only_of_the_release_that_is_asked_for(place: Place, build: Any) -> None:
    one, two = place.release(), place.release("1.1.0")
    old = place.file_verdict(one, made_at=build.after(days=-2))
    new = place.file_verdict(one)
    other = place.file_verdict(two, made_at=build.after(days=-1))
    studio = place.studio()

    assert [f.digest for f in read_verdicts(place.site, studio)] == [new, other, old]
    assert [f.digest for f in read_verdicts(place.site, studio, one.digest())] == [new, old]
    assert read_verdicts(place.site, studio)[0].signer == "td"


def test_verdict_on_a_thousand_shots_at_four_operating_points_is_read(place: Place, build: Any) -> None:
    release = place.release()
    scores = tuple(
        ShotScore(
            shot=f"atl{n:04}-hero", metric=metric.name, frames=100, candidate="0.987654321", current="0.987654321"
        )
        for n in range(1000)
        for metric in METRICS
    )
    points = (build.report(release, scores=scores),) * 4
    digest = place.file_verdict(release, points=points)

    (found,) = read_verdicts(place.site, place.studio(), release.digest())

    assert found.digest == digest
    assert 8 * 1024 * 1024 < (place.site.verdicts / f"{digest}.json").stat().st_size < LIMIT_BYTES


def test_what_nobody_enrolled_signed_and_what_is_no_verdict_counts_for_nothing(place: Place) -> None:
    release = place.release()
    good = place.file_verdict(release)
    folder = place.site.verdicts
    whole = json.loads((folder / f"{good}.json").read_bytes())
    place.file_verdict(release, key="online/promoter")
    place.file_verdict(release, key="offline/root")
    payload = base64.b64decode(whole["payload"]).replace(b'"accept"', b'"reject"')
    forged = canonical.dumps(whole | {"payload": base64.b64encode(payload).decode()})
    place.site.file_verdict(forged)
    shutil.copy(folder / f"{good}.json", folder / ("0" * 64 + ".json"))
    for name, data in (
        ("empty", b""),
        ("list", b"[]"),
        ("text", b'{"payload":"not base 64!"}'),
        ("other", b'{"payload":3}'),
        ("deep", b"[" * 100_000),
        ("binary", b"\xff\xfe"),
    ):
        (folder / f"{name}.json").write_bytes(data)
    (folder / "folder.json").mkdir()
    (folder / "nowhere.json").symlink_to(folder / "gone")

    for asked in (None, release.digest()):
        assert [f.digest for f in read_verdicts(place.site, place.studio(), asked)] == [good]


def test_model_is_found_by_its_bare_name_where_that_is_unique(build: Any) -> None:
    person, sky = build.release(), build.release(model="acme/sky-roto")
    other = build.release(model="zeta/sky-roto")
    studio = build.known(vendors=(build.vendor(person, sky), build.vendor(other, name="zeta"))).studio

    assert studio.model("person-roto") == studio.model("acme/person-roto") == "acme/person-roto"
    assert studio.model("zeta/sky-roto") == "zeta/sky-roto"
    with pytest.raises(InvalidInputError, match="several: acme/sky-roto, zeta/sky-roto"):
        studio.model("sky-roto")
    with pytest.raises(InvalidInputError, match="one of acme/person-roto, acme/sky-roto, zeta/sky-roto"):
        studio.model("hair-roto")
    with pytest.raises(InvalidInputError, match="expected a synced model"):
        build.known().studio.model("person-roto")


def test_unknown_model_of_a_vendor_that_does_not_verify_says_that(build: Any) -> None:
    error = TrustError("expiry", where="w", expected="e", actual="a", remedy="r")
    studio = build.known(vendors=(build.vendor(build.release()), build.vendor(name="zeta", error=error))).studio

    for name in ("sky-roto", "zeta/sky-roto"):
        with pytest.raises(TrustError):
            studio.model(name)
    with pytest.raises(InvalidInputError):
        studio.model("acme/sky-roto")


def test_release_is_found_by_model_and_version(build: Any) -> None:
    old, new = build.release("1.9.0"), build.release("1.10.0")
    studio = build.known(vendors=(build.vendor(new, old),)).studio

    assert studio.find("person-roto@1.10.0") == new
    for text, says in (
        ("person-roto", "expected MODEL@VERSION"),
        ("person-roto@1.2.0", "one of the versions 1.9.0, 1.10.0"),
        ("person-roto@1!1.0.0", "no epoch"),
        ("person-roto@", "three integers"),
        ("hair-roto@1.0.0", "an unknown model"),
    ):
        with pytest.raises(InvalidInputError, match=says) as caught:
            studio.find(text)
        assert caught.value.exit_code == 2


def test_overrides_of_a_scope_are_its_own_and_the_sites(build: Any) -> None:
    release, other = build.release(), build.release("1.1.0")
    of_site, of_atlas = build.override(release, "vram"), build.override(release, "speed")
    site = build.choice(overrides=(of_site, build.override(other, "golden")))
    atlas = build.choice(scope="shows/atlas", overrides=(of_atlas,))
    studio = replace(build.known().studio, choices=(site, atlas))

    assert studio.overrides(release.ref()) == (of_site, of_atlas)
    assert studio.overrides(release.ref(), "site") == (of_site,)
    assert studio.overrides(release.ref(), "shows/atlas") == (of_site, of_atlas)
    assert studio.overrides(release.ref(), "shows/other") == (of_site,)


def test_only_the_sites_choice_says_who_may_sign_verdicts(place: Place) -> None:
    (site,) = place.studio().choices
    stranger = place.build.choice(scope="shows/atlas").model_copy(update={"verdict_keys": site.verdict_keys})

    assert replace(place.studio(), choices=(stranger,)).verdict_keys() == ()
    assert [key.owner for key in place.studio().verdict_keys()] == ["td"]
