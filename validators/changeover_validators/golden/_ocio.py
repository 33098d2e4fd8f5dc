"""OpenColorIO, as far as it is known here: from a colour space of some configuration to one of ours.

Both sides meet through the interchange roles, so that a studio's own names are never guessed at. A configuration is
asked as it is written: variables have the values that it gives them itself, not those of this machine's environment.
Left out: what a shot may say (`colour`).
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from changeover_registry.errors import InvalidInputError

__all__ = ["BUILT_IN", "Road", "builtin_configs", "is_data", "road"]

BUILT_IN = "ocio://"
_OURS = "ocio://cg-config-v2.2.0_aces-v1.3_ocio-v2.4"
"""Where the targets are defined. A version by name: what ``ocio://default`` stands for changes with the library."""

_TARGETS = {"scene-linear": "Linear Rec.709 (sRGB)", "srgb": "sRGB Encoded Rec.709 (sRGB)"}

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Road:
    """From one space to another.

    Attributes:
        convert: float32 [N, 3], R, G and B of N pixels; gives new ones. Any thread may call it, and holds no lock.
        crosstalk: Whether a channel's result depends on another channel.
        identity: The library's version, the configuration's hash, and the hash of what is computed, tables included.
    """

    convert: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    crosstalk: bool
    identity: str


def builtin_configs() -> tuple[str, ...]:
    """The configurations that the library brings, by the names that always mean the same."""
    import PyOpenColorIO as ocio  # noqa: N813 - as its own documentation

    return tuple(f"{BUILT_IN}{entry[0]}" for entry in ocio.BuiltinConfigRegistry().getBuiltinConfigs())


def is_data(config: str, space: str) -> bool:
    """Whether `space` holds data that no colour transform may touch.

    Raises:
        InvalidInputError: The configuration cannot be read, or has no such space; close names are listed.
    """
    return bool(_space(config, space).isData())


def road(config: str, space: str, target: str) -> Road:
    """How to come from `space` of `config` to ``scene-linear`` or ``srgb``.

    Args:
        config: ``ocio://<name>``, or the path of a ``.ocio`` or ``.ocioz`` file.
        space: A colour space, alias or role.
        target: ``scene-linear`` (Rec. 709 primaries) or ``srgb``.

    Raises:
        InvalidInputError: The configuration cannot be read, has no such space, lacks an interchange role or a table.
    """
    import PyOpenColorIO as ocio  # noqa: N813 - as its own documentation

    source, ours = _config(config), _config(_OURS)
    name = _space(config, space).getName()
    try:
        processor = ocio.Config.GetProcessorFromConfigs(
            _context(source), source, name, ours.getCurrentContext(), ours, _TARGETS[target]
        )
        cpu = processor.getOptimizedCPUProcessor(ocio.BIT_DEPTH_F32, ocio.BIT_DEPTH_F32, ocio.OPTIMIZATION_LOSSLESS)
    except ocio.ExceptionMissingFile as error:
        remedy = "give the configuration as one archive (.ocioz), which ocioarchive makes"
        raise _refused(config, f"the tables of {space}", str(error), remedy) from error
    except ocio.Exception as error:
        remedy = "give the configuration the roles aces_interchange and cie_xyz_d65_interchange"
        raise _refused(config, f"a way from {space} to {target}", str(error), remedy) from error
    text = source.getCacheID().partition(":")[0]
    identity = f"ocio {ocio.__version__}, config {text}, processor {processor.getCacheID()}"
    return Road(lambda pixels: _convert(cpu, pixels), bool(cpu.hasChannelCrosstalk()), identity)


def _convert(cpu: Any, pixels: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ANN401 - the library has no types
    import PyOpenColorIO as ocio  # noqa: N813 - as its own documentation

    converted = np.array(pixels, np.float32, order="C")
    cpu.apply(ocio.PackedImageDesc(converted, len(converted), 1, 3))
    return converted


def _config(config: str) -> Any:  # noqa: ANN401 - the library has no types
    if config.startswith(BUILT_IN):
        if config not in builtin_configs():
            expected = "a built-in configuration by its full name"
            raise _refused(config, expected, "another name", f"name one of {', '.join(builtin_configs())}")
        return _read(config)
    path = Path(config)
    if not path.is_file():
        raise _refused(config, "a file .ocio or .ocioz", "no file", "bring the file back, or name another")
    return _read(config)


def _read(config: str) -> Any:  # noqa: ANN401 - the library has no types
    import PyOpenColorIO as ocio  # noqa: N813 - as its own documentation

    _silence()
    try:
        return ocio.Config.CreateFromFile(config)
    except (ocio.Exception, UnicodeDecodeError) as error:
        raise _refused(config, "an OpenColorIO configuration", str(error), "give the file that artists use") from error


@cache
def _silence() -> None:
    """Errors are raised; what else the library has to say would go to standard error."""
    import PyOpenColorIO as ocio  # noqa: N813 - as its own documentation

    ocio.SetLoggingLevel(ocio.LOGGING_LEVEL_NONE)


def _context(config: Any) -> Any:  # noqa: ANN401 - the library has no types
    """The configuration's own values of its variables."""
    import PyOpenColorIO as ocio  # noqa: N813 - as its own documentation

    context = config.getCurrentContext()
    context.clearStringVars()
    context.setEnvironmentMode(ocio.ENV_ENVIRONMENT_LOAD_PREDEFINED)
    for name in config.getEnvironmentVarNames():
        context[name] = config.getEnvironmentVarDefault(name)
    return context


def _space(config: str, space: str) -> Any:  # noqa: ANN401 - the library has no types
    found = _config(config)
    colour_space = found.getColorSpace(space)
    if colour_space is None:
        names = list(found.getColorSpaceNames())
        near = difflib.get_close_matches(space, names, _SHOWN, 0.4) or names[:_SHOWN]
        remedy = "name one of its colour spaces, aliases or roles"
        raise _refused(config, f"the colour space {space!r}", f"such as {', '.join(near)}", remedy)
    return colour_space


def _refused(config: str, expected: str, actual: str, remedy: str) -> InvalidInputError:
    return InvalidInputError("colour", where=config, expected=expected, actual=actual[:300], remedy=remedy)
