"""Runs inside a named interpreter that holds torch: loads one TorchScript file and tells what its calls allocate.

It is run as a file (``python -I trace_child.py``), so the interpreter needs nothing of Changeover: standard library and
torch, syntax of Python 3.7. One JSON line on standard input says what to do, one JSON line a recording comes back on
standard output, and at last ``{"done": true}`` or ``{"error": ...}``; what the model prints goes to standard error.

On the CPU the events are those of torch's profiler with its memory on (every tensor, and the buffers that kernels
ask torch for); on a GPU those of the allocator's own history. An event is ``[handle, bytes, operator, role]`` for an
allocation and ``[handle]`` for its end; `operator` is an index into `operators`, `role` is 1 for a buffer that ends
within the operator that made it, 2 for one that the call hands back, else 0. Handles are numbered from 0 in each call.

A call is what `runtimes.torchscript` does: the tensors are handed over, the module answers, states are copied to the
host, everything of the call ends.
"""
# ruff: noqa: ANN401, SLF001, UP006, UP035 - the interpreter may be as old as 3.7; torch tells memory in private.

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

SCHEMA = "changeover.trace/1"
CALL, HOST = "changeover.call", "changeover.host"
INPUT, SCRIPT = "input", "script"
PEAK = "allocated_bytes.all.peak"
COUNTED = ("allocated_bytes", "reserved_bytes", "active_bytes", "requested_bytes")
FILE_BYTES = 16 * 1024 * 1024


Event = Tuple[int, Any, int, Tuple[int, int], str]


class TooOldError(Exception):
    """This torch does not tell which allocation a memory event belongs to."""


def recordings(request: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """One recording for each session and size, in that order: the file is loaded anew for each session."""
    import torch

    torch.set_num_threads(int(request["threads"]))
    device = torch.device(request["device"])
    for session in range(int(request["sessions"])):
        module = torch.jit.load(request["path"], map_location=device)  # type: ignore[no-untyped-call]
        module.eval()
        for width, height in request["sizes"]:
            yield {
                "session": session,
                "torch": str(torch.__version__),
                "device": str(device.type),
                "width": width,
                "height": height,
                "weights": weights(module),
                **record(torch, module, request, (int(width), int(height))),
            }


def weights(module: Any) -> List[int]:
    """The bytes of each storage that the module holds: parameters, buffers, and constants inside of its code."""
    held = list(module.state_dict().values()) + constants(module)
    found: Dict[int, int] = {}
    for tensor in held:
        storage = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()
        size = storage.nbytes() if hasattr(storage, "nbytes") else len(storage) * tensor.element_size()
        if size:
            found.setdefault(storage.data_ptr(), int(size))
    return list(found.values())


def constants(module: Any) -> List[Any]:
    """The tensors that stand in the code of `forward` itself; none where this torch does not show it."""
    graph = getattr(module, "inlined_graph", None)
    nodes = [] if graph is None else list(graph.findAllNodes("prim::Constant", True))
    return [node.t("value") for node in nodes if node.hasAttribute("value") and node.kindOf("value") == "t"]


def record(torch: Any, module: Any, request: Dict[str, Any], size: Tuple[int, int]) -> Dict[str, Any]:
    """At `size` (width, height): the events and counters of each call, operators' names, what libraries keep."""
    generator = torch.Generator().manual_seed(7)
    shapes = [((1, tensor["channels"], size[1], size[0]), tensor["dtype"]) for tensor in request["inputs"]]
    images = [torch.rand(shape, generator=generator).to(getattr(torch, dtype)) for shape, dtype in shapes]
    states = [torch.zeros(state["shape"], dtype=getattr(torch, state["dtype"])) for state in request["states"]]
    calls: List[Any] = []
    counters: List[Any] = []
    operators: List[str] = []
    libraries: List[int] = []
    on_gpu = request["device"] == "cuda"
    if on_gpu:  # pragma: gpu
        # What another size left cached would be counted as reserved for this one.
        torch.cuda.empty_cache()
    for _ in range(int(request["calls"])):
        run = on_a_gpu if on_gpu else on_the_cpu
        events, states, counted, kept = run(torch, module, request, [*images, *states], operators)
        calls.append(events)
        counters.append(counted)
        libraries += kept
    return {"operators": operators, "calls": calls, "counters": counters, "libraries": libraries}


def on_the_cpu(
    torch: Any, module: Any, request: Dict[str, Any], given: List[Any], operators: List[str]
) -> Tuple[Any, ...]:
    """One call under the profiler: its events, the states for the next one, and torch's own count of the peak."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        kept = one_call(torch, module, request, given)
    found = flat(watched.profiler.kineto_results.experimental_event_tree())
    return events_of(found, operators), kept, {PEAK: peak_of(found)}, []


def one_call(torch: Any, module: Any, request: Dict[str, Any], given: List[Any]) -> List[Any]:
    """Hand over, run, and take what the next call needs to the host."""
    names = [str(state["output"]) for state in request["states"]]
    with torch.inference_mode():
        given = [tensor.to(request["device"], copy=True) for tensor in given]
        with torch.autograd.profiler.record_function(CALL):
            answer = module(*given)
        with torch.autograd.profiler.record_function(HOST):
            return [value.to("cpu", copy=True) for value in later(answer, names)]


def later(answer: Any, names: List[str]) -> List[Any]:
    """The outputs that are states: of a dictionary by name, else by position after the matte."""
    if isinstance(answer, dict):
        return [answer[name] for name in names]
    return list(answer)[1 : 1 + len(names)] if names else []


def flat(tree: Any) -> List[Event]:
    """(start, which operator's run or None, address, (bytes, all bytes then), operator) of memory events, by time."""
    found = []
    waiting = [(node, None, INPUT) for node in tree]
    while waiting:
        node, operator, name = waiting.pop()
        if "Allocation" in str(node.tag):
            extra = node.extra_fields
            if getattr(extra, "ptr", None) is None:
                raise TooOldError("memory events without an address")
            sizes = int(extra.alloc_size), int(extra.total_allocated)
            found.append((node.start_time_ns, operator, int(extra.ptr), sizes, name))
            continue
        if node.name in (CALL, HOST):
            name = SCRIPT if node.name == CALL else HOST
        elif name == SCRIPT and "::" in node.name:
            operator, name = node.correlation_id, node.name
        waiting.extend((child, operator, name) for child in node.children)
    return sorted(found, key=lambda event: event[0])


def peak_of(found: List[Event]) -> int:
    """By how much torch's own count of allocated bytes rose at the most, before anything went to the host."""
    own = [sizes for _, _, _, sizes, name in found if name != HOST]
    return max(total for _, total in own) - (own[0][1] - own[0][0]) if own else 0


def events_of(found: List[Event], operators: List[str]) -> List[List[int]]:
    """The call's own events; what was there before it, and what is only for the host, is left out."""
    events: List[List[int]] = []
    open_at: Dict[int, Tuple[int, Any, int]] = {}
    count = 0
    for _, operator, address, (size, _), name in found:
        if size > 0:
            open_at.pop(address, None)
            if name != HOST:
                open_at[address] = (count, operator, len(events))
                events.append([count, size, number(name, operators), 0])
                count += 1
        elif address in open_at:
            handle, maker, place = open_at.pop(address)
            events[place][3] = role(maker, operator, name)
            events.append([handle])
    # The rest ends with the call, at the latest when the profiler has stopped looking.
    return events + [[handle] for handle, _, _ in open_at.values()]


def role(maker: Any, ender: Any, name: str) -> int:
    """1 for what ends in the run of the operator that made it, 2 for what the script made and outlives it, else 0."""
    if maker is None:
        return 0
    return 1 if ender == maker else 2 if name in (INPUT, HOST) else 0


def number(name: str, operators: List[str]) -> int:
    """The index of an operator's name, which is added where it is new."""
    if name not in operators:
        operators.append(name)
    return operators.index(name)


def on_a_gpu(
    torch: Any, module: Any, request: Dict[str, Any], given: List[Any], operators: List[str]
) -> Tuple[Any, ...]:  # pragma: gpu
    """One call under the allocator's history: its events, the states for the next one, and torch's counters."""
    torch.cuda.reset_peak_memory_stats()
    # Without tracebacks, whose symbols take minutes to find.
    torch.cuda.memory._record_memory_history(context=None, max_entries=1000000)
    kept = one_call(torch, module, request, given)
    torch.cuda.synchronize()
    history = torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]
    torch.cuda.memory._record_memory_history(enabled=None)
    stats = torch.cuda.memory_stats()
    counted = {name: int(stats[name]) for name in stats if name.split(".")[0] in COUNTED and ".all." in name}
    events, libraries = history_events(history, operators)
    return events, kept, counted, libraries


def history_events(history: List[Dict[str, Any]], operators: List[str]) -> Tuple[List[List[int]], List[int]]:
    """The events of one entry of ``device_traces``, and the bytes of each block that outlives them.

    The history is a list of dictionaries with action, addr and size, in the order of time. ``alloc`` begins and
    ``free_requested`` ends a block (with one stream ``free_completed`` follows at once). What was there before the
    history began is left out; what it leaves open is kept by a library, such as the workspace of cuBLAS, since all
    tensors of a call end with it. The history names no operators.
    """
    begun: Dict[int, int] = {}
    ended_at: Dict[int, int] = {}
    for place, entry in enumerate(history):
        if entry["action"] == "alloc" and int(entry["size"]) > 0:
            begun[entry["addr"]] = place
        elif entry["action"] == "free_requested" and entry["addr"] in begun:
            ended_at[place] = begun.pop(entry["addr"])
    handles: Dict[int, int] = {place: handle for handle, place in enumerate(sorted(ended_at.values()))}
    events: List[List[int]] = []
    for place, entry in enumerate(history):
        if place in handles:
            events.append([handles[place], int(entry["size"]), number(SCRIPT, operators), 0])
        elif place in ended_at:
            events.append([handles[ended_at[place]]])
    return events, [int(history[place]["size"]) for place in begun.values()]


def bound(request: Dict[str, Any]) -> None:
    """Limits on this process, for good, before the first byte of the model is read."""
    try:
        import resource
    except ImportError:
        return
    lower(resource, resource.RLIMIT_CORE, 0)
    lower(resource, resource.RLIMIT_FSIZE, FILE_BYTES)
    lower(resource, resource.RLIMIT_CPU, int(request["cpu_seconds"]))
    if request["device"] == "cpu":
        lower(resource, resource.RLIMIT_DATA, (2 * int(request["ram_mib"]) + 512) * 1024 * 1024)


def lower(resource: Any, kind: int, value: int) -> None:
    """Set a limit, but never above what this process already has."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def answer(request: Dict[str, Any], write: Any) -> None:
    """Write every recording as a line, then how it ended."""
    try:
        bound(request)
        for recording in recordings(request):
            write(recording)
        write({"done": True})
    except Exception as error:  # noqa: BLE001 - the parent is told, whatever it is
        write({"error": {"class": type(error).__name__, "text": str(error)[:20000]}})


def write_file(path: str, request: Dict[str, Any]) -> None:
    """A trace file, as `trace.read_traces` reads it: for a measurement that runs where no Changeover is."""
    with Path(path).open("w", encoding="ascii") as out:
        out.write(json.dumps({"schema": SCHEMA}) + "\n")
        out.writelines(json.dumps(recording, separators=(",", ":")) + "\n" for recording in recordings(request))


def main() -> None:
    """Take standard output for ourselves, point the model's at standard error, and answer."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(pipe, "w", encoding="ascii") as out:

        def write(value: Dict[str, Any]) -> None:
            out.write(json.dumps(value, separators=(",", ":")) + "\n")
            out.flush()

        answer(json.loads(sys.stdin.readline()), write)


if __name__ == "__main__":
    main()
