"""Reports of verdicts: what is kept in the site is gathered, made a page and a document, and put in place.

``site/reports/<verdict digest>.html`` and ``.json`` are written when a verdict is filed, and can be made again from the
site at any time: beside them lies each policy that verdicts were made under. Nothing in them decides anything. What
cannot be read any more (a shot's record, filed scores, a policy) is left out of the report, which says so; only the
verdict itself must be there, signed.

Outside the show that owns a golden set its shots go by their aliases: in the site's reports, and always in MLflow,
which gets no picture unless the policy says so.
"""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from changeover_registry import _fs, canonical, signing
from changeover_registry.bom import BOM_NAME, Results, make_bom
from changeover_registry.clock import parse_time
from changeover_registry.errors import ChangeoverError, InvalidInputError, UndecidedError
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, ReleaseRef
from changeover_registry.records.scores import Picture, ShotScores
from changeover_registry.records.verdict import ScoresRef, Verdict
from changeover_updater.records import log_verdict
from changeover_updater.site import Site
from changeover_updater.studio import FiledVerdict, Studio, find_verdict, read_verdicts
from changeover_validators.golden.report.build import Sources, aliases_of, build_report
from changeover_validators.golden.report.document import render_json
from changeover_validators.golden.report.model import Report
from changeover_validators.golden.sets import read_set, read_shot

__all__ = [
    "Notice",
    "channel_of",
    "filed_bom",
    "gather",
    "pictures_of",
    "publish",
    "shot_aliases",
    "wanted_verdict",
    "write_page",
    "write_report",
]

Notice = Callable[[str], None]
_THUMBNAILS = 4


def wanted_verdict(site: Site, studio: Studio, text: str) -> FiledVerdict:
    """The verdict that a person means: a digest's first characters, ``MODEL@VERSION``'s newest, or the newest of all.

    Raises:
        InvalidInputError: There is none, there are several, or no such release is known.
    """
    release = studio.find(text).ref() if "@" in text else None
    found = read_verdicts(site, studio, release.digest if release else None)
    if text and release is None:
        return find_verdict(found, text)
    of_it = [filed for filed in found if release in {None, filed.verdict.candidate}]
    if not of_it:
        raise InvalidInputError(
            "verdict",
            where=text or str(site.verdicts),
            expected="a signed verdict",
            actual="none",
            remedy=f"make one: changeover check {text or 'MODEL@VERSION'}",
        )
    return of_it[0]


def write_report(site: Site, studio: Studio, filed: FiledVerdict) -> Path:
    """Write the report of a filed verdict into the site, as page and as document; returns the page's path.

    Raises:
        ModuleNotFoundError: The extra ``run`` is not installed here.
        OSError: The site cannot be written.
    """
    sources = gather(site, studio, filed)
    folder = site.root / "reports"
    _fs.make_dirs(folder)
    _keep_policy(site, filed.verdict)
    _fs.write_atomic(folder / f"{filed.digest}.json", render_json(build_report(sources)))
    return write_page(site, sources, folder / f"{filed.digest}.html")


def write_page(site: Site, sources: Sources, page: Path, *, pictures: bool = True) -> Path:
    """Write a report's page to a file; returns the file's path.

    Raises:
        ModuleNotFoundError: The extra ``run`` is not installed here.
        OSError: The file cannot be written.
    """
    from changeover_validators.golden.report.html import render_html

    report = build_report(sources)
    _fs.write_atomic(page, render_html(report, pictures_of(site, report) if pictures else None).encode())
    return page


def filed_bom(site: Site, studio: Studio, filed: FiledVerdict) -> bytes:
    """The bill of materials of a verdict's candidate with the verdict's results, its shots by their aliases.

    Raises:
        InvalidInputError: The candidate's record is not here any more.
        UndecidedError: The extra ``mlflow``, which brings the library that makes it, is not installed here.
    """
    return _bom(gather(site, studio, filed, outside=True))


def _bom(sources: Sources) -> bytes:
    verdict = _outside(sources)
    if sources.candidate is None:
        raise InvalidInputError(
            "bill of materials",
            where=str(verdict.candidate),
            expected="a release whose record is here",
            actual="none",
            remedy="run changeover sync",
        )
    return make_bom(sources.candidate, parse_time(verdict.made_at), Results(verdict, sources.digest))


def publish(site: Site, studio: Studio, digest: str, notice: Notice) -> Path | None:
    """After a verdict was filed: write its report, and give MLflow a copy of what it may have.

    Neither is part of the verdict: a notice says what could not be done, and all goes on.

    Returns:
        The report's page, if there is one.
    """
    page = None
    try:
        filed = _filed(site, studio, digest)
        page = write_report(site, studio, filed)
        _tell_mlflow(site, studio, filed, notice)
    except ModuleNotFoundError as error:
        notice(f"no report was made: {error.name} is not installed here; elsewhere: changeover report")
    except ChangeoverError as error:
        notice(f"no report was made: {error}")
    except OSError as error:
        notice(f"no report was made: {error.filename}: {error.strerror}; later: changeover report")
    return page


def _filed(site: Site, studio: Studio, digest: str) -> FiledVerdict:
    """One filed verdict, its signature verified.

    Raises:
        TrustError: No enrolled key signed it.
        OSError: It cannot be read.
    """
    path = site.verdicts / f"{digest}.json"
    payload, key = signing.open_envelope(path.read_bytes(), "verdict", studio.verdict_keys(), where=str(path))
    return FiledVerdict(digest=digest, verdict=Verdict.from_bytes(payload, where=str(path)), signer=key.owner)


def _tell_mlflow(site: Site, studio: Studio, filed: FiledVerdict, notice: Notice) -> None:
    """Give MLflow the verdict as those outside the owner's show may see it; the signed one only where nobody owns."""
    sources = gather(site, studio, filed, outside=True)
    owned = filed.verdict.golden_set is not None and not (sources.golden_set and sources.golden_set.owner_show is None)
    documents = _documents(site, sources, pictures=studio.policy.mlflow_pictures)
    # A show's own pictures stay in its report, where the policy lets them go at all; a page shows nobody's shots.
    small = _thumbnails(site, sources) if studio.policy.mlflow_pictures and not owned else {}
    shown = {**documents, **small}
    log_verdict(site, _outside(sources), filed.digest, notice, shown, keep_envelope=not owned, pictures=tuple(small))


def _outside(sources: Sources) -> Verdict:
    """The verdict as those outside the owner's show may read it: where a shot's name stood, its alias stands."""
    verdict, aliases = sources.verdict, aliases_of(sources)
    points = tuple(
        point.model_copy(
            update={"scores": tuple(s.model_copy(update={"shot": aliases.alias(s.shot)}) for s in point.scores)}
        )
        for point in verdict.points
    )
    return verdict.model_copy(update={"reason": aliases.text(verdict.reason), "points": points})


def _documents(site: Site, sources: Sources, *, pictures: bool) -> dict[str, bytes]:
    """What MLflow keeps of a report, by path: pixels only if `pictures`."""
    from changeover_validators.golden.report.html import render_html

    report = build_report(sources)
    shown = pictures_of(site, report) if pictures else {}
    documents = {"report.html": render_html(report, shown).encode(), "report.json": render_json(report)}
    with contextlib.suppress(UndecidedError, InvalidInputError):
        documents[BOM_NAME] = _bom(sources)
    for point in report.points:
        for shot in point.shots:
            for picture in shot.pictures:
                if picture.sha256 in shown:
                    data = shown[picture.sha256]
                    ending = "jpg" if data.startswith(b"\xff\xd8") else "png"
                    crop = "-crop" if picture.crop else ""
                    documents[f"pictures/{shot.alias}/{picture.kind}{crop}.{ending}"] = data
    return documents


def _thumbnails(site: Site, sources: Sources) -> dict[str, bytes]:
    """A small plate and matte of the worst shots, by path: what a release's page shows of a set that is nobody's."""
    from changeover_validators.golden.report.lighter import thumbnail

    report = build_report(sources)
    shots = report.points[0].shots[:_THUMBNAILS] if report.points else ()
    found = {}
    for shot in shots:
        for picture in (shot.picture("plate"), shot.picture("candidate")):
            data = _picture(site, shot.key, picture) if picture else None
            if picture is not None and data is not None and (small := thumbnail(data)):
                found[f"thumbnails/{shot.alias}/{picture.kind}.jpg"] = small
    return found


def gather(
    site: Site, studio: Studio, filed: FiledVerdict, *, show: str | None = None, outside: bool = False
) -> Sources:
    """All that the report of a verdict is made of, as far as the site still has it.

    Args:
        site: The site.
        studio: What the studio knows, verified.
        filed: The verdict.
        show: Whose people will read it; those of the set's own show may see its shots' names.
        outside: Whether aliases stand for names even where the set is nobody's.
    """
    verdict = filed.verdict
    golden_set = _golden_set(site, verdict)
    return Sources(
        verdict=verdict,
        digest=filed.digest,
        signer=filed.signer,
        candidate=_release(site, studio, verdict.candidate),
        current=_release(site, studio, verdict.current) if verdict.current else None,
        golden_set=golden_set,
        shots=_shots(site, golden_set) if golden_set else (),
        scores=_scores(site, verdict),
        policy=studio.policy if studio.policy_digest == verdict.policy else _policy_of_then(site, verdict),
        overrides=studio.overrides(verdict.candidate),
        named=not outside and golden_set is not None and golden_set.owner_show in {None, show},
    )


def channel_of(site: Site, verdict: Verdict) -> str | None:
    """The channel that a verdict is for: as it says, else of the show that owns its set; None where nobody can tell."""
    if verdict.channel is not None:
        return verdict.channel
    golden_set = _golden_set(site, verdict)
    return f"show/{golden_set.owner_show}" if golden_set and golden_set.owner_show else None


def shot_aliases(site: Site, verdict: Verdict) -> dict[str, str]:
    """What a verdict's sentences call its shots, by their names, as far as the site still has the records."""
    golden_set = _golden_set(site, verdict)
    return {shot.shot: shot.alias for shot in _shots(site, golden_set)} if golden_set else {}


def _policy_path(site: Site, verdict: Verdict) -> Path:
    return site.root / "reports" / f"policy-{verdict.policy}.toml"


def _keep_policy(site: Site, verdict: Verdict) -> None:
    """Keep the policy that a verdict was made under, so that its report can be made again when that has changed."""
    path, data = _policy_path(site, verdict), site.policy_bytes()
    if canonical.digest(data) == verdict.policy and not path.is_file():
        _fs.write_atomic(path, data)


def _policy_of_then(site: Site, verdict: Verdict) -> Policy | None:
    """The policy that was kept beside the reports; the verdict signs its digest, so no other passes for it."""
    path = _policy_path(site, verdict)
    try:
        data = path.read_bytes()
        return Policy.from_toml(data, where=str(path)) if canonical.digest(data) == verdict.policy else None
    except (ChangeoverError, OSError):
        return None


def _release(site: Site, studio: Studio, ref: ReleaseRef) -> Release | None:
    """The record of a release, which the vendor's metadata may no longer list; its digest says that it is the one."""
    try:
        path = site.vendor_of(ref.model).record_path(ref.digest)
        known = Release.from_bytes(path.read_bytes(), where=str(path))
    except (ChangeoverError, OSError):
        return studio.release(ref)
    return known if known.ref() == ref else None


def _golden_set(site: Site, verdict: Verdict) -> GoldenSet | None:
    """The set as it was when the verdict was made; None where that version is gone or is another."""
    used = verdict.golden_set
    try:
        found = read_set(site.golden, used.name, version=used.version) if used else None
    except (ChangeoverError, OSError):
        return None
    return found if found is not None and used is not None and found.digest() == used.digest else None


def _shots(site: Site, golden_set: GoldenSet) -> tuple[GoldenShot, ...]:
    found = []
    for ref in golden_set.shots:
        try:
            found.append(read_shot(site.golden, golden_set.name, ref))
        except (ChangeoverError, OSError):
            continue
    return tuple(found)


def _scores(site: Site, verdict: Verdict) -> dict[str, ShotScores]:
    """The filed scores that the verdict names, by the digest of their key."""
    refs = {ref.key: ref for point in verdict.points for ref in point.scored or ()}
    found = {key: _filed_scores(site, ref) for key, ref in refs.items()}
    return {key: scores for key, scores in found.items() if scores is not None}


def _filed_scores(site: Site, ref: ScoresRef) -> ShotScores | None:
    """Only the very bytes that the verdict signed: filed scores may have been made anew since."""
    path = site.scores / ref.key[:2] / ref.key / "scores.json"
    try:
        data = path.read_bytes() if path.is_file() else b""
        return ShotScores.from_bytes(data, where=str(path)) if canonical.digest(data) == ref.digest else None
    except (ChangeoverError, OSError):
        return None


def pictures_of(site: Site, report: Report) -> Mapping[str, bytes]:
    """The pictures that a report shows, by their digest, as far as the site still has them; plates as JPEG."""
    from changeover_validators.golden.report.lighter import lighter

    found: dict[str, bytes] = {}
    for key, picture in report.pictures():
        data = _picture(site, key, picture)
        if data is not None and picture.sha256 not in found:
            found[picture.sha256] = lighter(picture, data)
    return found


def _picture(site: Site, key: str, picture: Picture) -> bytes | None:
    path = site.scores / key[:2] / key / picture.file
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        return None
    return data if canonical.digest(data) == picture.sha256 else None
