"""What `fits` and `fleet` start from: the releases that are asked about, the policy, and what builds sessions here."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from changeover_registry.errors import UnreachableError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.memory import Calibration
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, Variant
from changeover_updater.cli._context import Invocation
from changeover_updater.predicting import Builder, Predictors, builders_in
from changeover_updater.resident import resident
from changeover_updater.studio import FiledVerdict
from changeover_updater.subjects import Subject, file_subject, folder_subject, is_file, is_folder
from changeover_validators.vram.footprint import Footprint
from changeover_validators.vram.predictor import Target

__all__ = ["Asked", "Question", "ask_about", "builders", "calibrations"]


@dataclass(frozen=True, slots=True)
class Question:
    """One release that is asked about, and what is in use in its place; `install` brings the files of that here."""

    subject: Subject
    current: Subject | None = None
    verdicts: tuple[FiledVerdict, ...] = ()
    install: Callable[[], None] = lambda: None

    def old(self, facts: HostFacts, policy: Policy, predictors: Predictors) -> Footprint | Unknown | None:
        """What the release in use takes on that host: by its verdicts, else as predicted.

        Raises:
            TrustError: A file of it is not the signed one.
        """
        provider = "cpu" if facts.gpus == () else "cuda"
        found = resident(self.current.release if self.current else None, self.verdicts, policy, provider)
        if self.current is None or not isinstance(found, Unknown):
            return found
        from changeover_updater.fits import current_footprint

        try:
            self.install()
        except UnreachableError:
            return Unknown(unknown=f"nothing is known of {self.current.name}, whose files cannot be had")
        return current_footprint(self.current, facts, policy, predictors, provider)

    def folder(self, release: Release, variant: Variant) -> Path:
        """Where the files of a variant of either release lie."""
        own = self.current is None or release.digest() == self.subject.release.digest()
        return (self.subject if own or self.current is None else self.current).folder(variant)


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions, and the policy under which they are asked; `usual` is its own plate where another is asked for."""

    questions: tuple[Question, ...]
    policy: Policy
    usual: tuple[int, int] | None = None


def ask_about(call: Invocation, names: tuple[str, ...], policy: Path | None, plate: str | None) -> Asked:
    """The releases, folders and files of `names`; without names, every release that a channel of the site points at.

    Raises:
        InvalidInputError: A name, the policy or the plate cannot be read.
        TrustError: The site's choice does not hold, or a file's bytes are not the signed ones.
    """
    from changeover_updater.fits import plate_of

    local = tuple(_local(name) for name in names)
    rules = None if policy is None else Policy.from_toml(policy.read_bytes(), where=str(policy))
    if names and all(local):
        questions = tuple(Question(subject) for subject in local if subject)
        rules = rules or Policy()
    else:
        questions, signed = _of_site(call, names, local)
        rules = rules or signed
    usual = rules.vram.plate
    if plate is not None:
        rules = rules.model_copy(update={"vram": rules.vram.model_copy(update={"plate": plate_of(plate)})})
    return Asked(questions, rules, None if rules.vram.plate == usual else usual)


def _local(name: str) -> Subject | None:
    if is_folder(name):
        return folder_subject(Path(name))
    return file_subject(Path(name)) if is_file(name) else None


def _of_site(
    call: Invocation, names: tuple[str, ...], local: tuple[Subject | None, ...]
) -> tuple[tuple[Question, ...], Policy]:
    from changeover_updater.bench import Bench, Watch
    from changeover_updater.permitted import baseline_of
    from changeover_updater.studio import read_studio, read_verdicts

    site, station = call.site(), call.station()
    studio = read_studio(site, station)
    # Nothing is run here, so the facts of this machine are not asked for.
    bench = Bench(site, station, studio, _nobody(call), Watch.silent())

    def subject(release: Release) -> Subject:
        return Subject(f"{release.model}@{release.version}", release, lambda v: bench.folder(release, v))

    def question(release: Release) -> Question:
        baseline = baseline_of(studio, release, studio.policy.channel)
        verdicts = read_verdicts(site, studio, baseline.digest()) if baseline else ()
        bench.install(release, release.variants)
        if baseline is None:
            return Question(subject(release))
        return Question(
            subject(release), subject(baseline), verdicts, lambda: bench.install(baseline, baseline.variants)
        )

    pointed = {str(pointer.release): pointer.release for choice in studio.choices for pointer in choice.channels}
    chosen = [bench.release(ref) for _, ref in sorted(pointed.items())] if not names else []
    both = zip(names, local, strict=True)
    asked = [Question(own) if own else question(studio.find(name)) for name, own in both]
    return (*asked, *map(question, chosen)), studio.policy


def _nobody(call: Invocation) -> HostFacts:
    """Facts of a host of which nothing is known; what is only read needs no more."""
    unknown = Unknown(unknown="not asked")
    return HostFacts(
        host=call.settings.host,
        os="linux",
        kernel=unknown,
        cpu_level=unknown,
        cores=unknown,
        ram_mib=unknown,
        gpus=unknown,
        runtimes=unknown,
    )


def builders(call: Invocation) -> tuple[Builder, ...]:
    """The interpreters of this machine that hold a runtime: those of host.toml, and the one that runs this command."""
    return builders_in((*dict(call.settings.runtimes).values(), sys.executable))


def calibrations(call: Invocation) -> Callable[[Target], Calibration | None]:
    """The constants that were measured: the site's where one is named, and those that ship."""
    from changeover_updater.memory import calibration_of
    from changeover_updater.site import Site

    root = call.settings.site
    return partial(calibration_of, Site.open(root) if root is not None else None)
