"""Keep a command that signs and verifies from importing boto3: it costs most of its time, and nobody asked for it.

securesystemslib imports the signers of every cloud that it finds a library for. With the extra ``s3`` installed that
would be boto3, a fifth of a second in every command that reads metadata. Most keys are files, so boto3 is hidden while
that one module of securesystemslib is imported, and from nobody else; whoever signs with a key of that cloud has the
module loaded again (`aws_signer`). Left out: the signers of other clouds, whose libraries no extra of ours brings.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["aws_signer", "hide_boto3_from_signers"]

_MODULE = "securesystemslib.signer._aws_signer"


class _Finder(MetaPathFinder):
    """Finds the one module, once, and has it loaded without boto3."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `MetaPathFinder.find_spec`."""
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loads a module while boto3 cannot be imported."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See `Loader.create_module`."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """See `Loader.exec_module`."""
        if "boto3" in sys.modules:
            self._loader.exec_module(module)
            return
        # None in this place has the interpreter say that there is no such module.
        sys.modules["boto3"] = None  # type: ignore[assignment]
        try:
            self._loader.exec_module(module)
        finally:
            del sys.modules["boto3"]


def hide_boto3_from_signers() -> None:
    """From now on; nothing happens if that module was imported before."""
    if _MODULE not in sys.modules:
        sys.meta_path.insert(0, _Finder())


def aws_signer() -> Any:  # noqa: ANN401 - a class of securesystemslib's, made anew
    """Securesystemslib's signer for AWS, with boto3 where it is installed."""
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME

    module = importlib.import_module(_MODULE)
    if module.AWS_IMPORT_ERROR is not None:
        module = importlib.reload(module)
        SIGNER_FOR_URI_SCHEME[module.AWSSigner.SCHEME] = module.AWSSigner
    return module.AWSSigner
