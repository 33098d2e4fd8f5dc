"""Which GPUs Nuke may be set to: the one question whose answer every rule about GPUs starts from.

Nuke's Inference runs on one GPU, chosen in its preferences, and takes another only after a restart. Where host.toml
says which one (``nuke_gpu``), that one is meant; else it may be any of them, so each has to do. What this leaves out:
memory, and what a check makes of the answer.

Beside it stands how an unknown fact of a host is learned (`look`).
"""

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts

__all__ = ["LOOK", "NO_INTERPRETER", "look", "nuke_gpus"]

LOOK = "run changeover facts on this host"
NO_INTERPRETER = "no interpreter is named under [runtimes] in host.toml"
"""The reason of a fact that only an interpreter with the extra ``run`` could have told."""

_NAME = "name an interpreter with the extra run under [runtimes] in host.toml, then: changeover facts"


def look(fact: Unknown) -> str:
    """How to learn an unknown fact: with no interpreter named, asking the host again would say the same again."""
    return _NAME if NO_INTERPRETER in fact.unknown else LOOK


def nuke_gpus(facts: HostFacts) -> tuple[Gpu, ...] | Unknown:
    """The GPUs that Nuke may be set to; empty only where it is certain that there is none.

    `HostFacts.nuke_gpu` may name a whole GPU or an instance of a divided one, by its UUID. A name that no GPU here has
    is unknown, and so is the answer then: the card may have been changed, and its successor is nobody's choice.
    """
    if isinstance(facts.gpus, Unknown) or facts.nuke_gpu is None:
        return facts.gpus
    chosen = tuple(gpu for gpu in facts.gpus if facts.nuke_gpu in _uuids(gpu))
    return chosen or Unknown(unknown=f"Nuke is set to {facts.nuke_gpu}, which is not among the GPUs of this host")


def _uuids(gpu: Gpu) -> tuple[str | Unknown, ...]:
    instances = gpu.instances if isinstance(gpu.instances, tuple) else ()
    return (gpu.uuid, *(instance.uuid for instance in instances))
