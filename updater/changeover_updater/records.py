"""The studio's MLflow: told of each release, verdict and choice, believed in nothing. If it is down, all goes on.

Its aliases are a picture of the signed choice. One that somebody moved by hand there is a request to promote: `doctor`
tells of it, nobody follows it, and it stands until that channel is promoted again.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from changeover_registry.errors import ChangeoverError
from changeover_registry.mlflow_adapter.aliases import Held, MovedAlias
from changeover_registry.records.choice import Choice, Pointer, Returned
from changeover_registry.records.release import Release, ReleaseRef
from changeover_registry.records.verdict import Verdict
from changeover_updater.site import Site

if TYPE_CHECKING:
    from changeover_registry.mlflow_adapter.registry import Registry

__all__ = [
    "alias_requests",
    "draw_aliases",
    "draw_promoted",
    "know_releases",
    "log_verdict",
    "promoted_now",
    "tell_withdrawn",
]

Notice = Callable[[str], None]


def know_releases(site: Site, releases: tuple[Release, ...], notice: Notice) -> None:
    """Have MLflow know these releases, with their documents; a notice says where it does not."""

    def tell() -> None:
        from changeover_updater.documents import Shelf

        _registry(site).know_releases(releases, Shelf(site).of)

    if releases:
        _tell(tell, notice)


def tell_withdrawn(site: Site, withdrawn: Mapping[ReleaseRef, str], notice: Notice) -> None:
    """Have the pages of these releases in MLflow say that their vendor took them back, and why."""
    if withdrawn:
        _tell(lambda: _registry(site).tell_withdrawn(withdrawn), notice)


def log_verdict(
    site: Site,
    verdict: Verdict,
    digest: str,
    notice: Notice,
    documents: Mapping[str, bytes] | None = None,
    *,
    keep_envelope: bool = True,
    pictures: tuple[str, ...] = (),
) -> None:
    """Give MLflow a copy of a verdict; a notice says where it was not had.

    Args:
        site: The site, which says where MLflow is.
        verdict: The verdict as everybody who reads MLflow may see it.
        digest: Of the envelope that is filed.
        notice: Where to say that MLflow was not told.
        documents: What to keep beside it, by path.
        keep_envelope: Whether the signed verdict itself may lie there too.
        pictures: Those of the documents, by path, that the page of the release may show to anybody.
    """

    def tell() -> None:
        envelope = (site.verdicts / f"{digest}.json").read_bytes()
        kept = {"verdict.dsse.json": envelope} if keep_envelope else {}
        _registry(site).log_verdict(verdict, digest, {**kept, **(documents or {})}, pictures)

    _tell(tell, notice)


def draw_aliases(site: Site, choices: Iterable[Choice], notice: Notice) -> None:
    """Have MLflow's aliases show what the verified choice gives its channels; a notice says where they do not.

    An MLflow that was never told of a release is left alone.
    """

    def tell() -> None:
        registry = _registry(site)
        if registry.is_there:
            registry.show_aliases(_held(choices))

    _tell(tell, notice)


def draw_promoted(site: Site, pointers: Iterable[Pointer | Returned], notice: Notice) -> None:
    """Have MLflow's aliases show what was promoted or returned just now: what was asked for there is answered."""

    def tell() -> None:
        held = tuple(Held(pointer.channel, pointer.release) for pointer in pointers)
        registry = _registry(site)
        if held and registry.is_there:
            registry.show_promoted(held)

    _tell(tell, notice)


def promoted_now(choice: Choice) -> tuple[Pointer, ...]:
    """The pointer that this choice was written for; none where it was written for something else."""
    return tuple(one for one in choice.channels if choice.entry.what == f"promote {one.release} to {one.channel}")


def alias_requests(site: Site, choices: Iterable[Choice]) -> tuple[MovedAlias, ...]:
    """Every alias that a person moved in MLflow; none where this environment or this site has no MLflow.

    Raises:
        UnreachableError: MLflow does not answer.
    """
    registry = _registry(site)
    if find_spec("mlflow") is None or not registry.is_there:
        return ()
    return registry.moved_aliases(_held(choices))


def _held(choices: Iterable[Choice]) -> tuple[Held, ...]:
    return tuple(Held(pointer.channel, pointer.release) for choice in choices for pointer in choice.channels)


def _registry(site: Site) -> "Registry":
    from changeover_registry.mlflow_adapter.registry import Registry

    return Registry(site.mlflow_uri(), site.root / "mlflow" / "artifacts")


def _tell(tell: Callable[[], None], notice: Notice) -> None:
    try:
        tell()
    except ChangeoverError as error:
        notice(f"MLflow was not told: {error}")
    except OSError as error:
        notice(f"MLflow was not told: {error.filename}: {error.strerror}")
