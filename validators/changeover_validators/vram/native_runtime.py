"""onnxruntime by its C API under the names of its Python module, as far as `runtimes.memory_plan` uses them.

So the one function that applies a plan applies it to a session that can be asked for its arena, too. One process has
one environment; it lives as long as a `NativeRuntime` does, and with it the arenas that were registered.
"""

import contextlib
import ctypes
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from changeover_registry.errors import MeasurementError
from changeover_validators.runtimes.capi import (
    STATISTICS_SINCE,
    Api,
    NativeError,
    find_library,
    logger,
    minor_of,
    texts,
)

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Input", "NativeInference", "NativeRuntime"]

_Array: TypeAlias = "np.ndarray[Any, Any]"
_CUDA = "CUDAExecutionProvider"
_INFO, _ERROR = 1, 3
_KEPT = ("Extending BFCArena for", "Extended allocation by", "Total allocated bytes", "Reserving memory")
_TYPES: Final = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
    "float64": 11, "uint32": 12, "uint64": 13,
}  # fmt: skip
_KINDS: Final = {number: name for name, number in _TYPES.items()}


def _kept(message: str) -> None:
    if message.startswith(_KEPT):
        _LINES.append(message)


_LINES: list[str] = []
_LOGGER = logger(_kept)
"""One for the process' life: its environment is one, and may outlive whoever made it."""


class _Held:
    """A pointer of the library that is released with the object that holds it."""

    def __init__(self, api: Api, kind: str, pointer: ctypes.c_void_p) -> None:
        self.pointer = pointer
        self.release = weakref.finalize(self, api.plain, f"Release{kind}", pointer)


@dataclass(frozen=True, slots=True)
class Input:
    """One input: its name, and its dims; a free one is its name, or None where it has none."""

    name: str
    shape: tuple[int | str | None, ...]


class _SessionOptions:
    """Settings are applied as they are set; only those that a plan needs are here."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._held = _Held(api, "SessionOptions", api.made("CreateSessionOptions"))
        self.pointer = self._held.pointer

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - a number or a truth
        """A setting of the Python module by its name there; anything else is an attribute of this object."""
        numbers = {
            "log_severity_level": "SetSessionLogSeverityLevel",
            "intra_op_num_threads": "SetIntraOpNumThreads",
            "inter_op_num_threads": "SetInterOpNumThreads",
            "graph_optimization_level": "SetSessionGraphOptimizationLevel",
        }
        if name in numbers:
            self._api.call(numbers[name], self.pointer, int(value))
        elif name == "enable_mem_pattern":
            self._api.call("EnableMemPattern" if value else "DisableMemPattern", self.pointer)
        elif name == "enable_cpu_mem_arena":
            self._api.call("EnableCpuMemArena" if value else "DisableCpuMemArena", self.pointer)
        elif name == "optimized_model_filepath":
            self._api.call("SetOptimizedModelFilePath", self.pointer, os.fsencode(value))
        elif name in {"_api", "_held", "pointer"}:
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(name)

    def add_session_config_entry(self, key: str, value: str) -> None:
        self._api.call("AddSessionConfigEntry", self.pointer, key.encode(), value.encode())

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        self._api.call("AddFreeDimensionOverrideByName", self.pointer, name.encode(), size)

    def append_cuda(self, settings: Mapping[str, str]) -> None:  # pragma: gpu
        """The library itself fails where its CUDA provider cannot be loaded; the Python module only warns."""
        held = _Held(self._api, "CUDAProviderOptions", self._api.made("CreateCUDAProviderOptions"))
        keys, values = texts(tuple(settings)), texts(tuple(settings.values()))
        self._api.call("UpdateCUDAProviderOptions", held.pointer, keys, values, len(settings))
        self._api.call("SessionOptionsAppendExecutionProvider_CUDA_V2", self.pointer, held.pointer)


class _RunOptions:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._held = _Held(api, "RunOptions", api.made("CreateRunOptions"))
        self.pointer = self._held.pointer

    def add_run_config_entry(self, key: str, value: str) -> None:
        self._api.call("AddRunConfigEntry", self.pointer, key.encode(), value.encode())


class NativeRuntime:
    """One library and one environment.

    Args:
        library: The file; None is the one of the wheel that this interpreter holds.
        keep_log: Whether the arena's own lines are kept where the release tells statistics as well.

    Attributes:
        log: The arenas' lines of this process since the newest runtime was made.

    Raises:
        UndecidedError: There is no such library.
    """

    OrtAllocatorType = SimpleNamespace(ORT_ARENA_ALLOCATOR=1)
    OrtMemType = SimpleNamespace(DEFAULT=0)
    GraphOptimizationLevel = SimpleNamespace(
        ORT_DISABLE_ALL=0, ORT_ENABLE_BASIC=1, ORT_ENABLE_EXTENDED=2, ORT_ENABLE_ALL=99
    )

    def __init__(self, library: Path | None = None, *, keep_log: bool = False) -> None:
        self.api = Api(library if library is not None else find_library())
        self.__version__ = self.api.version
        self.log = _LINES
        _LINES.clear()
        told = minor_of(self.api.version) >= STATISTICS_SINCE and not keep_log
        level = _ERROR if told else _INFO
        made = self.api.made("CreateEnvWithCustomLogger", _LOGGER, None, level, b"changeover")
        self.environment = _Held(self.api, "Env", made)
        if not told:
            # The environment may be another's, who wanted no log.
            self.api.call("UpdateEnvWithCustomLogLevel", made, level)

    def SessionOptions(self) -> _SessionOptions:  # noqa: N802 - the module's name
        """As of the Python module."""
        return _SessionOptions(self.api)

    def RunOptions(self) -> _RunOptions:  # noqa: N802 - as above
        """As of the Python module."""
        return _RunOptions(self.api)

    def OrtArenaCfg(self, limit: int, strategy: int, first: int, dead: int) -> _Held:  # noqa: N802 - as above
        """As of the Python module; bytes, and -1 for the runtime's own."""
        return _Held(self.api, "ArenaCfg", self.api.made("CreateArenaCfg", limit, strategy, first, dead))

    def OrtMemoryInfo(self, name: str, kind: int, device: int, memory: int) -> _Held:  # noqa: N802 - as above
        """As of the Python module."""
        return _Held(self.api, "MemoryInfo", self.api.made("CreateMemoryInfo", name.encode(), kind, device, memory))

    def create_and_register_allocator(self, info: _Held, settings: _Held) -> None:
        """As of the Python module."""
        environment = self.environment.pointer
        self.api.call("CreateAndRegisterAllocator", environment, info.pointer, settings.pointer)

    def create_and_register_allocator_v2(
        self, provider: str, info: _Held, options: Mapping[str, str], settings: _Held
    ) -> None:  # pragma: gpu
        """As of the Python module."""
        keys, values = texts(tuple(options)), texts(tuple(options.values()))
        parts = (self.environment.pointer, provider.encode(), info.pointer, settings.pointer)
        self.api.call("CreateAndRegisterAllocatorV2", *parts, keys, values, len(options))

    def InferenceSession(  # noqa: N802 - as above
        self, model: str | bytes, options: _SessionOptions, providers: Sequence[str | tuple[str, Mapping[str, str]]]
    ) -> "NativeInference":
        """As of the Python module, but a provider that cannot run is an error.

        Raises:
            MeasurementError: The library was built without the provider, or cannot load what it needs.
            NativeError: Whatever the runtime refuses.
        """
        for provider in providers:
            name, settings = (provider, {}) if isinstance(provider, str) else provider
            there = self.api.providers()
            if name not in there:
                raise _no_provider(name, f"a build with {', '.join(there) or 'none'}")
            if name == _CUDA:  # pragma: gpu
                try:
                    options.append_cuda(settings)
                except NativeError as error:
                    raise _no_provider(name, str(error)) from error
        return NativeInference(self, model, options)

    def close(self) -> None:
        """Give up the environment; sessions must be closed before."""
        self.environment.release()


class NativeInference:
    """One session; as of the Python module, as far as it is used.

    Args:
        runtime: Whose environment it belongs to.
        model: The path of a file, or the bytes of one.
        options: The settings.

    Raises:
        NativeError: Whatever the runtime refuses.
    """

    def __init__(self, runtime: NativeRuntime, model: str | bytes, options: _SessionOptions) -> None:
        self._runtime, self._api = runtime, runtime.api
        environment = runtime.environment.pointer
        if isinstance(model, bytes):
            made = self._api.made("CreateSessionFromArray", environment, model, len(model), options.pointer)
        else:
            path = model if os.name == "nt" else os.fsencode(model)
            made = self._api.made("CreateSession", environment, path, options.pointer)
        self._held = _Held(self._api, "Session", made)
        self.pointer = self._held.pointer
        self.inputs, self.outputs = self._names("Input"), self._names("Output")

    def get_inputs(self) -> tuple[Input, ...]:
        """The inputs with their dims."""
        return tuple(Input(name, self._dims(at)) for at, name in enumerate(self.inputs))

    def run(self, tensors: Mapping[str, _Array], options: _RunOptions | None = None) -> dict[str, _Array]:
        """All outputs by name; the arena's share of them is given back before this returns.

        Raises:
            NativeError: Whatever the runtime refuses.
        """
        count = len(self.outputs)
        with contextlib.ExitStack() as stack:
            memory = _Held(self._api, "MemoryInfo", self._api.made("CreateMemoryInfo", b"Cpu", 0, 0, 0))
            values = [self._value(array, memory, stack) for array in tensors.values()]
            given = (ctypes.c_void_p * len(values))(*values)
            answers = (ctypes.c_void_p * count)()
            at = None if options is None else options.pointer
            names = texts(tuple(tensors))
            self._api.call("Run", self.pointer, at, names, given, len(values), texts(self.outputs), count, answers)
            for pointer in answers:
                stack.callback(self._api.plain, "ReleaseValue", pointer)
            return {name: self._array(pointer) for name, pointer in zip(self.outputs, answers, strict=True)}

    def close(self) -> None:
        """Release the session and what its own arena holds."""
        self._held.release()

    def _value(self, array: _Array, memory: _Held, stack: contextlib.ExitStack) -> ctypes.c_void_p:
        """A tensor that lies where the array lies; the runtime copies nothing on the CPU."""
        import numpy as np

        whole = np.ascontiguousarray(array)
        shape = (ctypes.c_int64 * whole.ndim)(*whole.shape)
        kind = _TYPES[whole.dtype.name]
        parts = (memory.pointer, whole.ctypes.data, whole.nbytes, shape, whole.ndim, kind)
        value = self._api.made("CreateTensorWithDataAsOrtValue", *parts)
        stack.callback(self._api.plain, "ReleaseValue", value)
        stack.callback(lambda: whole.shape)
        return value

    def _array(self, pointer: int | None) -> _Array:
        import numpy as np

        info = _Held(
            self._api, "TensorTypeAndShapeInfo", self._api.made("GetTensorTypeAndShape", ctypes.c_void_p(pointer))
        )
        kind = ctypes.c_int()
        self._api.call("GetTensorElementType", info.pointer, ctypes.byref(kind))
        shape, dtype = self._numbers(info.pointer), np.dtype(_KINDS[kind.value])
        found = np.empty(shape, dtype)
        start = self._api.made("GetTensorMutableData", ctypes.c_void_p(pointer))
        if found.nbytes:
            ctypes.memmove(found.ctypes.data, start, found.nbytes)
        return found

    def _numbers(self, info: ctypes.c_void_p) -> tuple[int, ...]:
        count = ctypes.c_size_t()
        self._api.call("GetDimensionsCount", info, ctypes.byref(count))
        numbers = (ctypes.c_int64 * count.value)()
        self._api.call("GetDimensions", info, numbers, count)
        return tuple(numbers)

    def _dims(self, index: int) -> tuple[int | str | None, ...]:
        """A free dim is negative in the one list and has its name in the other."""
        held = _Held(self._api, "TypeInfo", self._api.made("SessionGetInputTypeInfo", self.pointer, index))
        info = self._api.made("CastTypeInfoToTensorInfo", held.pointer)
        numbers = self._numbers(info)
        names = (ctypes.c_char_p * len(numbers))()
        self._api.call("GetSymbolicDimensions", info, names, len(numbers))
        called = [name.decode() or None for name in names]  # type: ignore[union-attr]
        return tuple(number if number >= 0 else name for number, name in zip(numbers, called, strict=True))

    def _names(self, kind: str) -> tuple[str, ...]:
        count = ctypes.c_size_t()
        self._api.call(f"SessionGet{kind}Count", self.pointer, ctypes.byref(count))
        return tuple(self._name(kind, at) for at in range(count.value))

    def _name(self, kind: str, index: int) -> str:
        """The library hands the text over in memory of the allocator that it is given."""
        allocator = self._api.made("GetAllocatorWithDefaultOptions")
        text = self._api.made(f"SessionGet{kind}Name", self.pointer, index, allocator)
        name = ctypes.string_at(text).decode()
        self._api.call("AllocatorFree", allocator, text)
        return name


def _no_provider(name: str, found: str) -> MeasurementError:
    return MeasurementError(
        "provider",
        where="onnxruntime",
        expected=name,
        actual=found,
        remedy="install a runtime and driver that serve this provider, or measure on another",
    )
