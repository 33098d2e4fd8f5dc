import re
import tomllib
from pathlib import Path

import pytest

from changeover_registry import canonical
from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.records.policy import (
    AgentPolicy,
    FarmPolicy,
    GoldenPolicy,
    Guards,
    Policy,
    RetentionPolicy,
    RolloutPolicy,
    ShowPolicy,
    SpeedPolicy,
)
from changeover_registry.records.repository import TrustEntry
from changeover_updater.site import STARTER_POLICY, Site
from changeover_validators.golden.gates import check_margins
from changeover_validators.golden.thresholds import limits


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.create(tmp_path / "site")


def trust(site: Site, name: str, root: bytes = b"{}") -> None:
    folder = site.root / "trust" / name
    folder.mkdir()
    entry = TrustEntry(
        vendor=name, location="/v", root=canonical.digest(root), added_by="td", added_at="2026-11-22T12:00:00Z"
    )
    (folder / "entry.json").write_bytes(entry.to_bytes())
    (folder / "root.json").write_bytes(root)


def test_starter_policy_says_the_defaults() -> None:
    assert Policy.from_toml(STARTER_POLICY.encode(), where="starter") == Policy()
    assert set(tomllib.loads(STARTER_POLICY)) <= {"schema", *Policy.model_fields}


def test_keys_that_the_starter_policy_leaves_out_are_named_with_what_holds_without_them() -> None:
    """Each commented key, put in force as it stands, changes no limit."""
    lines = [re.sub(r"^# (\w+ = |\[[\w.]+\]$)", r"\1", line) for line in STARTER_POLICY.splitlines()]
    policy = Policy.from_toml("\n".join(lines).encode(), where="starter")
    said, guards = policy.golden.model_fields_set, policy.golden.guards
    assert said == {*GoldenPolicy.model_fields}
    assert guards.model_fields_set == {*Guards.model_fields}
    assert limits(guards) == limits(Guards())
    assert policy.speed.model_fields_set == {*SpeedPolicy.model_fields}
    assert (policy.rollout, policy.agent) == (RolloutPolicy(), AgentPolicy())
    assert (policy.retention, policy.farm) == (RetentionPolicy(), FarmPolicy())
    assert policy.shows == {"atlas": ShowPolicy(client_approval=True, weights=("Apache-2.0",))}
    check_margins(policy.golden, where="starter")


def test_reference_names_every_key_with_the_default_that_the_starter_policy_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "policy.md").read_text(encoding="utf-8")
    for prefix, model in (("golden.", GoldenPolicy), ("golden.guards.", Guards), ("speed.", SpeedPolicy)):
        for field in set(model.model_fields) - {"guards"}:
            assert f"| `{prefix}{field}`" in page or f", `{field}` |" in page, prefix + field
    held = limits(Guards())
    for key in ("window_frames", "empty_frames", "flicker_ratio", "flicker_floor"):
        assert f"| `golden.guards.{key}` | `{getattr(held, key)}` |" in page


def test_margin_of_an_unknown_metric_is_refused_when_the_policy_is_read(site: Site) -> None:
    text = STARTER_POLICY.replace("[golden.guards]", 'margins = { "ssim" = 0.01 }\n\n[golden.guards]')
    (site.root / "policy.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"dtssd:rvm.*found an unknown metric") as caught:
        site.policy(canonical.digest(text.encode()))
    assert caught.value.where.endswith('policy.toml: golden.margins."ssim"')


def test_site_is_made_once_and_what_is_there_is_left(site: Site) -> None:
    (site.root / "policy.toml").write_bytes(b"mine")

    assert Site.create(site.root) == Site.open(site.root) == site
    assert site.policy_bytes() == b"mine"
    for folder in (site.golden, site.verdicts, site.root / "inbox", site.root / "trust"):
        assert folder.is_dir()


def test_folder_that_is_no_site_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="found nothing"):
        Site.open(tmp_path)
    with pytest.raises(InvalidInputError, match="site folder"):
        Site.create(tmp_path / "a b")
    assert list(tmp_path.iterdir()) == []


def test_mlflow_is_a_file_of_the_site_or_the_server_that_is_named(site: Site) -> None:
    assert site.mlflow_uri() == f"sqlite:///{site.root}/mlflow/mlflow.db"
    (site.root / "site.toml").write_text('schema = "changeover.site/1"\nmlflow = "http://m:5000"\n', encoding="utf-8")
    assert site.mlflow_uri() == "http://m:5000"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"mlflow = [", "a TOML file in UTF-8"),
        (b'schema = "\xff"', "a TOML file in UTF-8"),
        (b'schema = "changeover.site/1"\nml = 1\n', "no such field"),
    ],
)
def test_bad_site_toml_is_refused_by_its_name(site: Site, data: bytes, says: str) -> None:
    (site.root / "site.toml").write_bytes(data)

    with pytest.raises(InvalidInputError, match=says) as caught:
        site.config()

    assert str(site.root / "site.toml") in caught.value.where


def test_policy_is_taken_only_as_it_was_signed(site: Site) -> None:
    digest = canonical.digest(site.policy_bytes())

    assert site.policy(digest) == (Policy(), digest)
    for signed in (None, "0" * 64):
        with pytest.raises(TrustError, match=f"sha256 {signed or 'none'}"):
            site.policy(signed)


def test_policy_that_is_none_is_refused_with_its_line(site: Site) -> None:
    (site.root / "policy.toml").write_bytes(b"sandbox = ")

    with pytest.raises(InvalidInputError, match="policy.toml"):
        site.policy(canonical.digest(b"sandbox = "))


@pytest.mark.parametrize("name", ["..", "a/b", "", "../trust/acme", "Acme"])
def test_vendor_of_a_name_that_leads_elsewhere_is_refused(site: Site, name: str) -> None:
    with pytest.raises(InvalidInputError, match="name"):
        site.vendor(name)


def test_vendor_that_is_not_trusted_is_refused_with_those_that_are(site: Site) -> None:
    with pytest.raises(InvalidInputError, match="nobody yet"):
        site.vendor("acme")
    trust(site, "zeta")
    with pytest.raises(InvalidInputError, match=r"\(zeta\)") as caught:
        site.vendor("acme")
    assert "changeover trust add acme" in caught.value.remedy


def test_vendors_are_listed_by_name(site: Site) -> None:
    for name in ("zeta", "acme"):
        trust(site, name)
    (site.root / "trust" / "half").mkdir()
    (site.root / "trust" / ".lock").touch()

    assert [found.vendor for found in site.vendors()] == ["acme", "zeta"]
    found = site.vendor("acme")
    assert found.entry().vendor == "acme"
    assert found.pinned_root() == b"{}"
    assert found.mirror == found.root / "mirror"
    assert found.record_path("0" * 64) == found.root / "records" / f"{'0' * 64}.json"


def test_pinned_root_that_was_exchanged_is_refused_with_5(site: Site) -> None:
    trust(site, "acme")
    (site.root / "trust" / "acme" / "root.json").write_bytes(b"{ }")

    with pytest.raises(TrustError, match="pinned root") as caught:
        site.vendor("acme").pinned_root()

    assert caught.value.exit_code == 5


def test_verdict_is_filed_read_only_under_its_digest(site: Site) -> None:
    digest = site.file_verdict(b"envelope")

    path = site.verdicts / f"{digest}.json"
    assert digest == canonical.digest(b"envelope")
    assert path.read_bytes() == b"envelope"
    assert path.stat().st_mode & 0o222 == 0
    assert site.file_verdict(b"envelope") == digest
