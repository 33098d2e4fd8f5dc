"""onnxruntime's C API by ctypes: the wheel's own library, the functions that a measurement needs, errors as exceptions.

The Python module links a copy of the runtime of its own and shows neither that copy's API nor its sessions, so what a
session holds is told only to a session that was built through the library beside it in the wheel: the same release,
built from the same sources. The table of functions only ever grows at its end; the places here are those of the public
header ``onnxruntime_c_api.h``. Importing this loads nothing; the standard library alone is needed.
"""

import ctypes
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from changeover_registry.errors import UndecidedError

__all__ = ["STATISTICS_SINCE", "Api", "NativeError", "find_library", "logger", "minor_of", "texts"]

STATISTICS_SINCE: Final = 23
"""The first minor release whose API tells an allocator's statistics."""

_NAMES = ("libonnxruntime.so*", "libonnxruntime*.dylib", "onnxruntime.dll")
_P, _S, _N, _I = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
_OUT, _TEXTS, _POINTERS = ctypes.POINTER(_P), ctypes.POINTER(_S), ctypes.POINTER(_P)
_PATH = ctypes.c_wchar_p if os.name == "nt" else _S
_LOG = ctypes.CFUNCTYPE(None, _P, _I, _S, _S, _S, _S)

_STATUSES: Final[dict[str, tuple[int, tuple[Any, ...]]]] = {
    "CreateEnvWithCustomLogger": (4, (_LOG, _P, _I, _S, _OUT)),
    "CreateSession": (7, (_P, _PATH, _P, _OUT)),
    "CreateSessionFromArray": (8, (_P, _P, _N, _P, _OUT)),
    "Run": (9, (_P, _P, _TEXTS, _POINTERS, _N, _TEXTS, _N, _POINTERS)),
    "CreateSessionOptions": (10, (_OUT,)),
    "SetOptimizedModelFilePath": (11, (_P, _PATH)),
    "EnableMemPattern": (16, (_P,)),
    "DisableMemPattern": (17, (_P,)),
    "DisableCpuMemArena": (19, (_P,)),
    "SetSessionLogSeverityLevel": (22, (_P, _I)),
    "SetSessionGraphOptimizationLevel": (23, (_P, _I)),
    "SetIntraOpNumThreads": (24, (_P, _I)),
    "SetInterOpNumThreads": (25, (_P, _I)),
    "SessionGetInputCount": (30, (_P, ctypes.POINTER(_N))),
    "SessionGetOutputCount": (31, (_P, ctypes.POINTER(_N))),
    "SessionGetInputTypeInfo": (33, (_P, _N, _OUT)),
    "SessionGetInputName": (36, (_P, _N, _P, _OUT)),
    "SessionGetOutputName": (37, (_P, _N, _P, _OUT)),
    "CreateRunOptions": (39, (_OUT,)),
    "CreateTensorWithDataAsOrtValue": (49, (_P, _P, _N, ctypes.POINTER(ctypes.c_int64), _N, _I, _OUT)),
    "GetTensorMutableData": (51, (_P, _OUT)),
    "CastTypeInfoToTensorInfo": (55, (_P, _OUT)),
    "GetTensorElementType": (60, (_P, ctypes.POINTER(_I))),
    "GetDimensionsCount": (61, (_P, ctypes.POINTER(_N))),
    "GetDimensions": (62, (_P, ctypes.POINTER(ctypes.c_int64), _N)),
    "GetSymbolicDimensions": (63, (_P, _TEXTS, _N)),
    "GetTensorTypeAndShape": (65, (_P, _OUT)),
    "CreateMemoryInfo": (68, (_S, _I, _I, _I, _OUT)),
    "AllocatorFree": (76, (_P, _P)),
    "GetAllocatorWithDefaultOptions": (78, (_OUT,)),
    "AddFreeDimensionOverrideByName": (124, (_P, _S, ctypes.c_int64)),
    "GetAvailableProviders": (125, (ctypes.POINTER(_TEXTS), ctypes.POINTER(_I))),
    "ReleaseAvailableProviders": (126, (_TEXTS, _I)),
    "AddSessionConfigEntry": (130, (_P, _S, _S)),
    "CreateAllocator": (131, (_P, _P, _OUT)),
    "CreateAndRegisterAllocator": (144, (_P, _P, _P)),
    "CreateArenaCfg": (156, (_N, _I, _I, _I, _OUT)),
    "AddRunConfigEntry": (165, (_P, _S, _S)),
    "SessionOptionsAppendExecutionProvider_CUDA_V2": (204, (_P, _P)),
    "CreateCUDAProviderOptions": (205, (_OUT,)),
    "UpdateCUDAProviderOptions": (206, (_P, _TEXTS, _TEXTS, _N)),
    "UpdateEnvWithCustomLogLevel": (226, (_P, _I)),
    "CreateAndRegisterAllocatorV2": (259, (_P, _S, _P, _P, _TEXTS, _TEXTS, _N)),
    "AllocatorGetStats": (319, (_P, _OUT)),
}
_OTHERS: Final[dict[str, tuple[int, Any, tuple[Any, ...]]]] = {
    "GetErrorCode": (1, _I, (_P,)),
    "GetErrorMessage": (2, _S, (_P,)),
    "GetKeyValuePairs": (
        298,
        None,
        (_P, ctypes.POINTER(_TEXTS), ctypes.POINTER(_TEXTS), ctypes.POINTER(_N)),
    ),
    "ReleaseEnv": (92, None, (_P,)),
    "ReleaseStatus": (93, None, (_P,)),
    "ReleaseMemoryInfo": (94, None, (_P,)),
    "ReleaseSession": (95, None, (_P,)),
    "ReleaseValue": (96, None, (_P,)),
    "ReleaseRunOptions": (97, None, (_P,)),
    "ReleaseTypeInfo": (98, None, (_P,)),
    "ReleaseTensorTypeAndShapeInfo": (99, None, (_P,)),
    "ReleaseSessionOptions": (100, None, (_P,)),
    "ReleaseAllocator": (132, None, (_P,)),
    "ReleaseArenaCfg": (157, None, (_P,)),
    "ReleaseCUDAProviderOptions": (208, None, (_P,)),
    "ReleaseKeyValuePairs": (300, None, (_P,)),
}
_CODES = (
    "OK", "FAIL", "INVALID_ARGUMENT", "NO_SUCHFILE", "NO_MODEL", "ENGINE_ERROR", "RUNTIME_EXCEPTION",
    "INVALID_PROTOBUF", "MODEL_LOADED", "NOT_IMPLEMENTED", "INVALID_GRAPH", "EP_FAIL",
)  # fmt: skip


class NativeError(Exception):
    """The runtime's own refusal, in the words in which its Python module says it, so `endings` knows both."""


class _Base(ctypes.Structure):
    _fields_ = (("GetApi", ctypes.CFUNCTYPE(_P, ctypes.c_uint32)), ("GetVersionString", ctypes.CFUNCTYPE(_S)))


class Api:
    """The functions of one library.

    Args:
        library: The file, as `find_library` answers.

    Attributes:
        version: The release, as the library says it: ``1.31.1``.
    """

    def __init__(self, library: Path) -> None:
        entry = ctypes.CDLL(str(library)).OrtGetApiBase
        entry.restype = ctypes.POINTER(_Base)
        base = entry().contents
        self.version = str(base.GetVersionString().decode())
        self._table = ctypes.cast(base.GetApi(minor_of(self.version)), ctypes.POINTER(_P))
        self._bound: dict[str, Any] = {}

    def call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401 - ctypes takes what the function takes
        """Call a function that answers a status.

        Raises:
            NativeError: The status is no success.
        """
        status = self._function(name)(*arguments)
        if status:
            raise self._error(status)

    def made(self, name: str, *arguments: Any) -> ctypes.c_void_p:  # noqa: ANN401 - as above
        """Call a function whose last argument is where it puts a pointer, and answer that.

        Raises:
            NativeError: As `call`.
        """
        out = _P()
        self.call(name, *arguments, ctypes.byref(out))
        return out

    def plain(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401 - as above
        """Call a function that answers something else, or nothing."""
        return self._function(name)(*arguments)

    def pairs(self, pointer: ctypes.c_void_p) -> dict[str, str]:
        """What an ``OrtKeyValuePairs`` holds; it is released."""
        keys, values, count = _TEXTS(), _TEXTS(), _N()
        self.plain("GetKeyValuePairs", pointer, ctypes.byref(keys), ctypes.byref(values), ctypes.byref(count))
        found = {keys[at].decode(): values[at].decode() for at in range(count.value)}
        self.plain("ReleaseKeyValuePairs", pointer)
        return found

    def providers(self) -> tuple[str, ...]:
        """The execution providers that the library was built with."""
        names, count = _TEXTS(), _I()
        self.call("GetAvailableProviders", ctypes.byref(names), ctypes.byref(count))
        found = tuple(names[at].decode() for at in range(count.value))
        self.call("ReleaseAvailableProviders", names, count)
        return found

    def _function(self, name: str) -> Any:  # noqa: ANN401 - a function of ctypes
        if name not in self._bound:
            if name in _STATUSES:
                (at, takes), answers = _STATUSES[name], _P
            else:
                at, answers, takes = _OTHERS[name]
            self._bound[name] = ctypes.CFUNCTYPE(answers, *takes)(self._table[at] or 0)
        return self._bound[name]

    def _error(self, status: int) -> NativeError:
        code = int(self.plain("GetErrorCode", status))
        name = _CODES[code] if code < len(_CODES) else "UNKNOWN"
        text = self.plain("GetErrorMessage", status).decode("utf-8", "replace")
        self.plain("ReleaseStatus", status)
        return NativeError(f"[ONNXRuntimeError] : {code} : {name} : {text}")


def find_library(folder: Path | None = None) -> Path:
    """The library in `folder`, or in the wheel that this interpreter holds.

    Raises:
        UndecidedError: There is no wheel, or it is one of before 1.20, which held the Python module alone.
    """
    place = folder if folder is not None else _wheel()
    found = [path for pattern in _NAMES for path in sorted(place.glob(pattern))] if place is not None else []
    if not found:
        raise UndecidedError(
            "runtime",
            where="no onnxruntime" if place is None else str(place),
            expected="a wheel of onnxruntime that holds its library (1.20 or later)",
            actual="none",
            remedy="measure in an interpreter with a newer onnxruntime",
        )
    return found[0]


def logger(write: Any) -> Any:  # noqa: ANN401 - a function of Python and one of C
    """`write(message)` as what the library logs with; it must be kept for as long as it may be called."""

    def take(_to: Any, _level: int, _category: bytes, _name: bytes, _place: bytes, message: bytes | None) -> None:  # noqa: ANN401 - C's signature
        write((message or b"").decode("utf-8", "replace"))

    return _LOG(take)


def texts(values: Sequence[str]) -> Any:  # noqa: ANN401 - an array of ctypes
    """An array of C strings, which holds its bytes."""
    return (_S * len(values))(*(value.encode() for value in values))


def minor_of(version: str) -> int:
    """31 of ``1.31.1``: by it the API is numbered; 0 where the text is no version."""
    found = re.match(r"1\.(\d+)\.", version)
    return int(found.group(1)) if found else 0


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("onnxruntime")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "capi"
