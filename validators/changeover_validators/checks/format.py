"""Check 3, format and safety: only formats that are data, or executable ones that the studio allowed this vendor.

`check_format` reads the record alone and runs everywhere. `check_files` compares the record with an inspection of the
files, where those are at hand: the files may need less than the record claims, never more. What this leaves
out: running anything (`smoke`).
"""

from collections.abc import Iterator, Mapping

from changeover_registry.inspect.inspection import Inspection, Problem, TensorInfo, formats
from changeover_registry.records.findings import Finding, Passed, Refused
from changeover_registry.records.release import Release, Variant
from changeover_validators.checks.evidence import evidence_of, with_evidence

__all__ = ["check_files", "check_format"]

_EXECUTABLE = frozenset({"torchscript", "nuke-cat"})
_ENTRIES = {"onnx": (".onnx",), "torchscript": (".pt", ".ts", ".torchscript"), "nuke-cat": (".cat",)}
_REFUSED_SUFFIXES = frozenset(
    {".pkl", ".pickle", ".pth", ".ckpt", ".joblib", ".py", ".pyc", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat"}
)
_AT_LEAST = ("ir_version", "opset", "torchscript_version", "weight_bytes")
_COVERS = ("domains", "operators", "dtypes")


def check_format(release: Release, allow_executable: bool) -> tuple[Finding, ...]:  # noqa: FBT001 - a fact of the trust entry
    """A finding for each variant, from the record alone; `allow_executable` is what the trust entry says."""
    return tuple(
        finding
        for variant in release.variants
        for finding in tuple(_refusals(variant, executable=allow_executable)) or (_passed(variant, "format allowed"),)
    )


def check_files(release: Release, inspections: Mapping[str, Inspection]) -> tuple[Finding, ...]:
    """A finding for each variant that `inspections` (variant id to inspection) covers: its files are as claimed."""
    findings: list[Finding] = []
    for variant in release.variants:
        found = inspections.get(variant.id)
        if found is not None:
            refused = (*found.problems, *_claims(variant, found), *_tensors(variant, found))
            findings += [_refused(variant, problem) for problem in refused] or [
                _passed(variant, "files are as claimed")
            ]
    return tuple(findings)


def _refusals(variant: Variant, *, executable: bool) -> Iterator[Refused]:
    if variant.runtime in _EXECUTABLE and not executable:
        problem = Problem(
            "executable format",
            variant.entry,
            "a vendor who is allowed to send executable formats",
            f"{variant.runtime}, which is code",
            "to allow it: changeover trust remove VENDOR, then trust add it again with --allow-executable",
        )
        yield _refused(variant, problem)
    if not variant.entry.lower().endswith(_ENTRIES[variant.runtime]):
        expected = f"an entry that ends in {' or '.join(_ENTRIES[variant.runtime])}"
        yield _refused(
            variant, Problem("entry", variant.entry, expected, "another ending", "ask the vendor to rename it")
        )
    for file in variant.files:
        suffix = "." + file.path.lower().rpartition(".")[2]
        if suffix in _REFUSED_SUFFIXES:
            remedy = "ask the vendor for a release without it"
            yield _refused(variant, Problem("file format", file.path, "data that nothing executes", suffix, remedy))
    yield from (_refused(variant, problem) for problem in _domains(variant))


def _domains(variant: Variant) -> Iterator[Problem]:
    allowed = formats()["onnx"]["domains"]
    custom = sorted(set(variant.requires.domains) - set(allowed))
    if custom:
        remedy = "ask the vendor for an export without custom operators"
        yield Problem("operator domain", variant.entry, f"only {', '.join(allowed)}", ", ".join(custom), remedy)


def _claims(variant: Variant, found: Inspection) -> Iterator[Problem]:
    """Where the record asks for less than the files need. A need that the files show and the record omits is less."""
    claimed, derived, shown = variant.requires, found.requires, evidence_of(found)
    for name in (*_AT_LEAST, "compute_capability"):
        need, claim = getattr(derived, name), getattr(claimed, name)
        if need is not None and (claim is None or _key(claim) < _key(need)):
            yield _less(variant, name, with_evidence(f"at least {need}", name, shown), str(claim))
    for name in _COVERS:
        missing = sorted(set(getattr(derived, name)) - set(getattr(claimed, name)))
        if missing and not _unasked(variant, name):
            yield _less(variant, name, f"also {', '.join(missing)}", ", ".join(getattr(claimed, name)) or "none")
    for name in ("external_data", "dynamic_axes", "global_attention"):
        if getattr(derived, name) and not getattr(claimed, name) and not _unasked(variant, name):
            yield _less(variant, name, with_evidence("true", name, shown), str(getattr(claimed, name)).lower())


def _unasked(variant: Variant, name: str) -> bool:
    """Whether a record says nothing of what was not read out of its format when it was written."""
    return variant.runtime == "torchscript" and getattr(variant.requires, name) in {None, ()}


def _key(value: int | str) -> tuple[int, ...]:
    return tuple(int(part) for part in str(value).split("."))


def _less(variant: Variant, field: str, expected: str, actual: str) -> Problem:
    remedy = "ask the vendor to register the release again; `requires` is derived from the files"
    return Problem("requires", f"{variant.id}: {field}", f"{expected}, as the files need", actual, remedy)


def _tensors(variant: Variant, found: Inspection) -> Iterator[Problem]:
    """Where the contract names tensors that the file does not have, or feeds them another number of channels."""
    if not found.inputs:
        return
    contract = variant.contract
    inputs = {item.name: item for item in found.inputs}
    outputs = {item.name for item in found.outputs}
    fed = {tensor.name for tensor in contract.inputs} | {state.input for state in contract.states}
    read = {contract.output.name} | {state.output for state in contract.states}
    for name in sorted(fed ^ inputs.keys()):
        yield _tensor(variant, name, "the inputs of the file", "not in the file" if name in fed else "fed by nobody")
    for name in sorted(read - outputs):
        yield _tensor(variant, name, "an output of the file", "not in the file")
    for tensor in contract.inputs:
        info = inputs.get(tensor.name)
        actual = _other(info, len(tensor.channels), tensor.dtype)
        if actual:
            yield _tensor(variant, tensor.name, f"{tensor.dtype} [1,{len(tensor.channels)},H,W]", actual)
        elif info is not None:
            yield from _fixed(variant, info)


def _fixed(variant: Variant, info: TensorInfo) -> Iterator[Problem]:
    """Where the file fixes its height or width, and the contract would feed another."""
    # Comparing files is no station's work; the records' check, which is, does without the prediction of memory.
    from changeover_validators.vram.curves import tensor_size

    contract = variant.contract
    for tile in contract.tiles:
        whole_plate = tile.size == 0 and contract.resize is None
        width, height = tensor_size(contract, 0, 0, tile)
        for axis, fed in ((2, height), (3, width)):
            fixed = info.dims[axis]
            if isinstance(fixed, int) and (whole_plate or fixed != fed):
                text = "the whole plate" if whole_plate else f"{width}x{height}"
                yield _tensor(variant, info.name, f"{text}, as tile {tile} feeds it", f"axis {axis} fixed at {fixed}")


def _other(info: TensorInfo | None, channels: int, dtype: str) -> str | None:
    if info is None:
        return None
    dims = info.dims
    fits = len(dims) == 4 and all(
        isinstance(dim, str) or dim == want for dim, want in zip(dims, (1, channels), strict=False)
    )
    return None if fits and info.dtype == dtype else f"{info.dtype} [{','.join(map(str, dims))}]"


def _tensor(variant: Variant, name: str, expected: str, actual: str) -> Problem:
    return Problem("contract", f"{variant.entry}: {name}", expected, actual, "correct the contract in release.toml")


def _refused(variant: Variant, problem: Problem) -> Refused:
    return Refused(
        check="format",
        subject=variant.id,
        rule=problem.rule,
        expected=problem.expected,
        actual=f"{problem.where}: {problem.actual}",
        remedy=problem.remedy,
    )


def _passed(variant: Variant, detail: str) -> Passed:
    return Passed(check="format", subject=variant.id, detail=detail)
