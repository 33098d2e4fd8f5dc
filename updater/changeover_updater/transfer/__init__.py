"""Bring the files of a release here: in parallel parts, every block verified as it lands, resumed after any cut."""

from changeover_updater.transfer.fetch import fetch_file
from changeover_updater.transfer.limits import Limits
from changeover_updater.transfer.partial import Partial, partial_path

__all__ = ["Limits", "Partial", "fetch_file", "partial_path"]
