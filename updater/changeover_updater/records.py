"""The studio's MLflow: told of each release and verdict, believed in nothing. If it is down, all goes on."""

from collections.abc import Callable, Mapping

from changeover_registry.errors import ChangeoverError
from changeover_registry.records.release import Release
from changeover_registry.records.verdict import Verdict
from changeover_updater.site import Site

__all__ = ["know_releases", "log_verdict"]

Notice = Callable[[str], None]


def know_releases(site: Site, releases: tuple[Release, ...], notice: Notice) -> None:
    """Have MLflow know these releases; a notice says where it does not."""

    def tell() -> None:
        from changeover_registry.mlflow_adapter import Registry

        registry = Registry(site.mlflow_uri(), site.root / "mlflow" / "artifacts")
        for release in releases:
            registry.know_release(release)

    if releases:
        _tell(tell, notice)


def log_verdict(
    site: Site,
    verdict: Verdict,
    digest: str,
    notice: Notice,
    documents: Mapping[str, bytes] | None = None,
    *,
    keep_envelope: bool = True,
) -> None:
    """Give MLflow a copy of a verdict; a notice says where it was not had.

    Args:
        site: The site, which says where MLflow is.
        verdict: The verdict as everybody who reads MLflow may see it.
        digest: Of the envelope that is filed.
        notice: Where to say that MLflow was not told.
        documents: What to keep beside it, by path.
        keep_envelope: Whether the signed verdict itself may lie there too.
    """

    def tell() -> None:
        from changeover_registry.mlflow_adapter import Registry

        envelope = (site.verdicts / f"{digest}.json").read_bytes()
        kept = {"verdict.dsse.json": envelope} if keep_envelope else {}
        registry = Registry(site.mlflow_uri(), site.root / "mlflow" / "artifacts")
        registry.log_verdict(verdict, digest, {**kept, **(documents or {})})

    _tell(tell, notice)


def _tell(tell: Callable[[], None], notice: Notice) -> None:
    try:
        tell()
    except ChangeoverError as error:
        notice(f"MLflow was not told: {error}")
    except OSError as error:
        notice(f"MLflow was not told: {error.filename}: {error.strerror}")
