"""The entry point of the command ``changeover``, and of ``python -m changeover_updater``."""

import gc
import os

__all__ = ["main"]

_ALLOCATIONS = 1_000_000


def main() -> None:
    """Run the command line.

    The collector waits for a million new objects: a command that only answers makes fewer, nearly all while importing,
    and looking through them again and again was a sixth of its time.
    """
    gc.set_threshold(_ALLOCATIONS, 20, 100)
    # Looking for plug-ins of pydantic reads every installed package, and what it found would run in our process.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from changeover_registry.telemetry import NO_TELEMETRY

    os.environ.update(NO_TELEMETRY)
    from changeover_updater.cli.main import main as run_command

    run_command()


if __name__ == "__main__":
    main()
