"""The site: the studio's shared folder, written by TDs or one service account.

It holds the policy, the trust entries, the signed choice, the signed verdicts and the golden shots. Left out: what any
of it means; this module knows names and how files are put in place.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from changeover_registry import _fs, canonical
from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.names import check_name, check_path
from changeover_registry.records.base import Record
from changeover_registry.records.farm import OsPaths
from changeover_registry.records.repository import TrustEntry
from changeover_updater.store import FORMAT, check_format, check_root

if TYPE_CHECKING:
    from changeover_registry.records.policy import Policy

__all__ = ["IN_SITE", "STARTER_POLICY", "Site", "SiteConfig", "VendorFolder"]

IN_SITE = "site:"
"""What a location begins with that lies below the site's root, which hosts may have at different places."""

STARTER_POLICY = """\
# The studio's policy. Every line is a default; change it, then sign it: changeover promote --policy --reason "..."
# Until it is signed, every command that judges refuses the changed file (exit 5).
schema = "changeover.policy/1"

# "required": a model runs only in an isolated process. "limits-only" is shown in every verdict, never for TorchScript.
sandbox = "required"
# The channel that stations of this site follow.
channel = "stable"
# Shows whose unstamped nodes follow their channel by themselves.
follow = []
# A verdict older than this many days cannot promote.
verdict_days = 30
# Which operating points a check measures: "first-that-fits" of each variant, or "all".
operating_points = "first-that-fits"

[licence]
# SPDX identifiers of weights that may be used here.
weights = ["Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0"]
refuse_training_data = ["unknown"]

[hardware]
# Whether a host without a GPU may serve on its CPU, and which share of its RAM a model may take.
serve_on_cpu = false
ram_share = 0.5

[vram]
# The plate that must fit, and what is kept free beside it, in MiB.
plate = [4096, 2160]
nuke_baseline_mib = 1024
display_reserve_mib = 1024
headroom_mib = 512
# A headroom of their own for cards with and without a display; without it, headroom_mib.
# display_headroom_mib = 1024
# compute_headroom_mib = 256
# What a runtime takes before it loads a model, where nobody measured it.
context_mib = 400
# How many nodes of one script hold the model at once; and whether old and new are both resident while nodes move.
# instances = 2
# changeover = "unload-first"

[speed]
# A candidate may take this many times the current release's seconds a frame.
ratio = 1.5
# At which plate sizes (width, height); without it, at [vram] plate. And limits of its own: time until the model is
# ready, host RAM of all its processes. Without them, none.
# plates = [[1920, 1080], [4096, 2160]]
# first_load_ms = 20000
# ram_mib = 8192

[golden]
# The golden set that "changeover check" uses when none is named.
set = ""
confidence = 0.95
min_shots = 5
# How much worse than the current release is still as good: mean difference over shots, per metric, in its unit.
margin_jaccard = 0.01
margin_boundary_f = 0.01
margin_mad = 0.005
# A matte's value above this is inside, for J and F.
threshold = 0.5
# With fewer shots than min_shots, the guards and one named sign-off may stand in: changeover verdict sign-off.
# supervisor_review = false
# Margins of further metrics, by full name (docs: reference, metrics).
# margins = { "dtssd:rvm" = 0.003, "mad:truth-band" = 0.02 }

[golden.guards]
# One broken guard rejects, whatever the mean says.
worst_shot = 0.03
floor_jaccard = 0.5
floor_boundary_f = 0.2
ceiling_mad = 0.1
# The most that J or F may lose over any run of so many frames; without it, twice worst_shot.
# worst_window = 0.06
# window_frames = 12
# Frames of a shot on which nothing is found where the truth has something.
# empty_frames = 0
# Flicker, as a multiple of the larger of the current release's, the truth's and a floor that nobody sees.
# flicker_ratio = 1.75
# flicker_floor = 0.0005
# The most that a shot may lose in J or F against the best ever approved on it; without it, as worst_shot.
# ratchet = 0.03

[scope]
# How Nuke finds the show, sequence and shot of a script, in this order.
order = ["environment", "path", "knobs", "gsv"]
environment = ["SHOW", "SEQUENCE", "SHOT"]
# A regular expression with the groups show, sequence and shot, matched against the script's path.
path = ""

# How releases come to stations. Take the marks before a section and its lines away to change it.
# [rollout]
# A station stays where it is while, of the stations that tried a release on its way, more than this part failed, and
# by more than chance would have it at this confidence.
# max_failed = 0.2
# confidence = 0.95

# [agent]
# When agents may change over, in each host's local time, such as "19:00-07:00"; empty: at any time.
# hours = ""

# [retention]
# "changeover gc" leaves what was in use within so many days (share_days on a store that several hosts read), and the
# newest generations.
# days = 30
# share_days = 90
# generations = 3

# [farm]
# "gpu" stops a render that would run a model on its CPU.
# device = "any"

# What one show's client asks for: its agreement first (changeover show approve), and weights of these licences alone.
# [shows.atlas]
# client_approval = true
# weights = ["Apache-2.0"]
"""

SITE_TOML = """\
schema = "changeover.site/1"
# "sqlite" is a file in this folder; or the URI of a server.
mlflow = "sqlite"

# The store's folder as each system of the farm sees it; "changeover lock" writes each model's path for all of them.
# [paths]
# linux = "/mnt/changeover/store"
# windows = "//server/changeover/store"
# macos = "/Volumes/changeover/store"
"""


class SiteConfig(Record):
    """``site.toml``."""

    NAME: ClassVar[str] = "site"

    mlflow: str = "sqlite"
    paths: OsPaths | None = None


@dataclass(frozen=True, slots=True)
class VendorFolder:
    """``trust/<vendor>``: the entry, the pinned root, the client's state, the mirror and the records."""

    root: Path

    @property
    def vendor(self) -> str:
        """The vendor's name: the name of the trust entry."""
        return self.root.name

    @property
    def mirror(self) -> Path:
        """The vendor's metadata and targets as they were verified last: itself a repository."""
        return self.root / "mirror"

    def entry(self) -> TrustEntry:
        """The trust entry, with what lies in the site named as this host sees it.

        Raises:
            TrustError: It is the entry of another vendor.
        """
        path = self.root / "entry.json"
        entry = TrustEntry.from_bytes(path.read_bytes(), where=str(path))
        if entry.vendor != self.vendor:
            raise TrustError(
                "trust entry",
                where=str(path),
                expected=f"the entry of {self.vendor}",
                actual=f"the entry of {entry.vendor}",
                remedy=f"find out who moved it; then: changeover trust remove {self.vendor}",
            )
        below = entry.location.removeprefix(IN_SITE)
        if below == entry.location:
            return entry
        return entry.model_copy(update={"location": str(self.root.parents[1] / check_path(below, where=str(path)))})

    def pinned_root(self) -> bytes:
        """The root metadata that the trust was given to.

        Raises:
            TrustError: It is not the one that the entry names.
        """
        data = (self.root / "root.json").read_bytes()
        expected, actual = self.entry().root, canonical.digest(data)
        if actual != expected:
            raise TrustError(
                "pinned root",
                where=str(self.root / "root.json"),
                expected=f"sha256 {expected}",
                actual=actual,
                remedy="remove the vendor and add it again with the root that the vendor gives you in person",
            )
        return data

    def locations(self, digest: str) -> tuple[str, ...]:
        """Where a file of that digest is asked for: first the mirror, if it was carried there, then the vendor."""
        carried = (str(self.mirror),) if (self.mirror / "objects" / digest[:2] / digest).is_file() else ()
        return (*carried, *(place for place in self.entry().locations() if place not in carried))

    def carried(self) -> bool:
        """Whether bundles bring what the vendor publishes: then its repository is the mirror that they fill."""
        return self.entry().location == str(self.mirror)

    def waits_for_a_bundle(self) -> bool:
        """Whether the first of its bundles is still to be imported, so that there is nothing to read."""
        return self.carried() and not (self.mirror / "metadata" / "timestamp.json").is_file()

    def record_path(self, digest: str) -> Path:
        """Where the release record of that digest is kept."""
        return self.root / "records" / f"{digest}.json"


@dataclass(frozen=True, slots=True)
class Site:
    """The site's folder."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> "Site":
        """Make the folders, the starter policy and site.toml; what is there is left as it is."""
        check_root(root, what="site")
        for name in ("trust", "verdicts", "golden", "inbox", "stations", "mlflow"):
            _fs.make_dirs(root / name)
        for name, data in (
            ("format", FORMAT),
            (
                "site.toml",
                SITE_TOML.encode(),
            ),
            ("policy.toml", STARTER_POLICY.encode()),
        ):
            if not (root / name).exists():
                _fs.write_atomic(root / name, data)
        return cls(root)

    @classmethod
    def open(cls, root: Path) -> "Site":
        """The site at `root`.

        Raises:
            InvalidInputError: It is not a site of a format that this version reads.
        """
        check_format(root)
        return cls(root)

    @property
    def choice(self) -> Path:
        """The repository of the studio's choice."""
        return self.root / "choice"

    @property
    def follows(self) -> Path:
        """Where a site that follows another one's choice keeps the root of that choice; not there otherwise."""
        return self.root / "follows"

    @property
    def golden(self) -> Path:
        """The golden sets."""
        return self.root / "golden"

    @property
    def verdicts(self) -> Path:
        """The signed verdicts."""
        return self.root / "verdicts"

    @property
    def scores(self) -> Path:
        """What golden shots scored, by key; the noise floors are in ``noise`` below it."""
        return self.root / "scores"

    def config(self) -> SiteConfig:
        """``site.toml``."""
        path = self.root / "site.toml"
        try:
            body = tomllib.loads(path.read_bytes().decode("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInputError(
                "TOML", where=str(path), expected="a TOML file in UTF-8", actual=str(error), remedy="correct that line"
            ) from error
        return SiteConfig.from_object(body, where=str(path))

    def mlflow_uri(self) -> str:
        """Where the studio's MLflow is."""
        named = self.config().mlflow
        return f"sqlite:///{self.root / 'mlflow' / 'mlflow.db'}" if named == "sqlite" else named

    def policy_bytes(self) -> bytes:
        """``policy.toml`` as it stands."""
        return (self.root / "policy.toml").read_bytes()

    def policy(self, signed: str | None) -> "tuple[Policy, str]":
        """The policy and its digest.

        Raises:
            TrustError: The file is not the one that the studio's choice holds the digest of.
            InvalidInputError: The file is not a policy.
        """
        data = self.policy_bytes()
        policy, actual = self.read_policy(data), canonical.digest(data)
        if actual != signed:
            raise TrustError(
                "policy",
                where=str(self.root / "policy.toml"),
                expected=f"the signed policy, sha256 {signed or 'none'}",
                actual=f"sha256 {actual}",
                remedy='undo the change, or sign it: changeover promote --policy --reason "..."',
            )
        return policy, actual

    def read_policy(self, data: bytes) -> "Policy":
        """The policy that these bytes of ``policy.toml`` are.

        Raises:
            InvalidInputError: They are none, or a further margin is of a metric that cannot be gated.
        """
        from changeover_registry.records.policy import Policy

        where = str(self.root / "policy.toml")
        policy = Policy.from_toml(data, where=where)
        if policy.golden.margins:
            from changeover_validators.golden.gates import check_margins

            check_margins(policy.golden, where=where)
        return policy

    def vendor(self, name: str) -> VendorFolder:
        """The folder of a trusted vendor.

        Raises:
            InvalidInputError: No such vendor is trusted here.
        """
        folder = self.root / "trust" / check_name(name, where="vendor")
        if not (folder / "entry.json").is_file():
            known = ", ".join(vendor.vendor for vendor in self.vendors()) or "nobody yet"
            raise InvalidInputError(
                "vendor",
                where=name,
                expected=f"a trusted vendor ({known})",
                actual=name,
                remedy=f"trust it first: changeover trust add {name} LOCATION --root ROOT.json",
            )
        return VendorFolder(folder)

    def vendor_of(self, model: str) -> VendorFolder:
        """The folder of the vendor of ``vendor/name``.

        Raises:
            InvalidInputError: That vendor is not trusted here.
        """
        return self.vendor(model.partition("/")[0])

    def vendors(self) -> tuple[VendorFolder, ...]:
        """All trusted vendors, by name; a folder that a killed command left half made or half removed is none."""
        folders = sorted(path for path in (self.root / "trust").iterdir() if _is_vendor(path))
        return tuple(VendorFolder(folder) for folder in folders)

    def file_verdict(self, envelope: bytes) -> str:
        """File a signed verdict under its digest, and return that."""
        digest = canonical.digest(envelope)
        _fs.write_atomic(self.verdicts / f"{digest}.json", envelope, mode=0o444)
        return digest


def _is_vendor(folder: Path) -> bool:
    return not folder.name.startswith(".") and (folder / "entry.json").is_file()
