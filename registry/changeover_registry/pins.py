"""The PIN of a token that holds a private key: from ``CHANGEOVER_HSM_PIN``, or asked for once in a process.

The command line says who is asked (`ask_with`), where somebody sits at a terminal; nothing here prints or asks, and
nothing is kept anywhere but in this process. Left out: what a PIN opens (`key_uris`).
"""

import os
from collections.abc import Callable

from changeover_registry.errors import InvalidInputError

__all__ = ["ENV_PIN", "ask_with", "forget", "pin"]

ENV_PIN = "CHANGEOVER_HSM_PIN"


class _Asked:
    """Who is asked, and what was answered."""

    def __init__(self) -> None:
        self.ask: Callable[[str], str] | None = None
        self.known: dict[str, str] = {}


_ASKED = _Asked()


def ask_with(ask: Callable[[str], str] | None) -> None:
    """Have `ask` called with the name of a secret where the environment holds none; None: nobody is asked."""
    _ASKED.ask = ask
    forget()


def forget() -> None:
    """Ask again next time: the answer was wrong."""
    _ASKED.known.clear()


def pin(name: str) -> str:
    """The secret of that name, such as "pin".

    Raises:
        InvalidInputError: The environment holds none, and nobody can be asked.
    """
    if given := os.environ.get(ENV_PIN):
        return given
    if name not in _ASKED.known:
        if _ASKED.ask is None:
            raise InvalidInputError(
                "token's PIN",
                where=ENV_PIN,
                expected="the PIN, in this variable or typed at a terminal",
                actual="neither",
                remedy=f"set {ENV_PIN} for this command, or run it at a terminal",
            )
        _ASKED.known[name] = _ASKED.ask(name)
    return _ASKED.known[name]
