"""Options that several commands share, apart from what answers them: every command's start would pay for that."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["PlateOption", "PolicyOption"]

PlateOption = Annotated[str | None, typer.Option(help="Width and height in pixels, 4096x2160; else the policy's.")]
PolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="A policy.toml to ask under; else the site's, else the defaults.")
]
