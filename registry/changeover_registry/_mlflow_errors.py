"""What goes wrong with MLflow, in our words: one clear line each."""

import re

from changeover_registry.errors import TrustError, UnreachableError

__all__ = ["missing", "not_installed", "unreachable"]


def missing(where: str) -> TrustError:
    """A registered file that is not there any more."""
    return TrustError(
        "registered files",
        where=where,
        expected="the file as it was registered",
        actual="no such file",
        remedy="somebody removed it from MLflow; register the release again under a new version",
    )


def not_installed(location: str, error: ImportError) -> UnreachableError:
    """The package is not in this environment."""
    return UnreachableError(
        "MLflow",
        where=location,
        expected="the package mlflow in this environment",
        actual=str(error),
        remedy="install it with: pip install 'changeover[mlflow]'",
    )


def unreachable(location: str, error: Exception) -> UnreachableError:
    """MLflow, its database or the way to it said no; the first line of what it said is kept."""
    return UnreachableError(
        "MLflow",
        where=location,
        expected="an MLflow that answers and takes this",
        actual=_said(str(error).strip() or type(error).__name__),
        remedy="see whether it runs, is this version's (3.15 or newer), has room and lets you in; then run this again",
    )


def _said(text: str) -> str:
    """The system's own words where there was no connection; else the first line, without what libraries wrap it in."""
    refused = re.search(r"\[Errno -?\d+\] ([A-Za-z ]+)", text)
    if "Max retries exceeded" in text:
        return f"no connection ({refused.group(1)})" if refused else "no connection"
    line = text.splitlines()[0]
    return line if len(line) <= 240 else line[:237] + "..."
