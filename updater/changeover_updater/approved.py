"""What was approved before: the accepted verdicts of promoted releases, for the ratchet.

Which releases were promoted is read from the choice's signed history, which verdicts accepted them from signed
envelopes. Left out: what may be compared with what, and what follows (`golden.ratchet`).
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from changeover_registry.errors import ChangeoverError
from changeover_registry.names import check_digest
from changeover_registry.records.scores import ScoreKey, ShotScores
from changeover_updater.bench import Bench
from changeover_updater.studio import read_accepted, scopes

if TYPE_CHECKING:
    from changeover_validators.golden.ratchet import Best

__all__ = ["approved_scores", "promoted_releases"]


def promoted_releases(bench: Bench, model: str) -> frozenset[str]:
    """The digests of a model's releases that any scope's signed choice ever held, as channel or pin.

    Raises:
        TrustError: The history is not what its signatures say.
    """
    from changeover_registry.repository import choice

    root = (bench.station.folder / "trust" / "choice" / "root.json").read_bytes()
    history = [one for scope in scopes(bench.site) for one in choice.history(bench.site.choice, scope, root=root)]
    named = [entry.release for one in history for entry in one.channels]
    named += [entry.release for one in history for entry in one.pins]
    return frozenset(release.digest for release in named if release.model == model)


def approved_scores(bench: Bench, model: str, keys: Mapping[str, ScoreKey]) -> "tuple[Best, ...]":
    """Every approved score that scores under `keys` (by shot) may be compared with."""
    from changeover_validators.golden.ratchet import best_scores

    promoted = promoted_releases(bench, model)
    filed = read_accepted(bench.site, bench.studio, promoted)
    # Release after release was compared on the same shots, so the same results are asked for again and again.
    return best_scores(filed, promoted, keys, cache(lambda digest: _key(bench, digest)))


def _key(bench: Bench, digest: str) -> ScoreKey | None:
    """What a filed score depended on; whether it is that of the digest is for the ratchet to see."""
    path = bench.site.scores / check_digest(digest, where="key")[:2] / digest / "scores.json"
    try:
        return ShotScores.from_bytes(path.read_bytes(), where=str(path)).key if path.is_file() else None
    except (OSError, ChangeoverError):
        return None
