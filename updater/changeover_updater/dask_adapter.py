"""The one place that knows Dask: tasks go out as bytes, bundles come back as bytes, and its errors stop here.

Workers are a studio's own: whoever may connect to a scheduler may run any code on them, so the address belongs inside
the studio's network. A worker that dies takes nothing along: its task is run again on another one. A task that has
killed several workers is a failed measurement of that shot. Left out: starting workers, which is the studio's business.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

from changeover_registry.errors import ChangeoverError, InvalidInputError, MeasurementError, UnreachableError
from changeover_registry.records.scores import ScoreTask
from changeover_updater.worker import score_bytes
from changeover_validators.runtimes.endings import one_line

__all__ = ["outcome", "run", "scheduler_address"]

_CONNECT_SECONDS = 15
_LOOK_SECONDS = 5.0
_ALONE_SECONDS = 60.0
_SAME = "install the same changeover, with the extra 'run', on every worker"


def scheduler_address(executor: str) -> str:
    """The scheduler's address in ``dask://host:port``.

    Raises:
        InvalidInputError: It is none.
    """
    kind, _, rest = executor.partition("://")
    host, _, port = rest.rpartition(":")
    if kind != "dask" or not host or not (port.isdecimal() and len(port) <= 5):
        raise InvalidInputError(
            "executor", where="--executor", expected="dask://HOST:PORT", actual=executor, remedy="correct the address"
        )
    return f"tcp://{rest}"


def run(
    address: str, tasks: Sequence[ScoreTask], notice: Callable[[str], None]
) -> Iterator[tuple[ScoreTask, bytes | ChangeoverError]]:
    """Have tasks done by a cluster; each with its bundle's bytes or with what went wrong, as they land.

    Closing the iterator gives up what has not begun.

    Raises:
        InvalidInputError: The extra ``dask`` is not installed.
        UnreachableError: The scheduler does not answer, or has had no worker for a minute.
    """
    client = _client(address)
    try:
        executor = client.get_executor(pure=False)
        waiting = {executor.submit(score_bytes, task.to_bytes()): task for task in tasks}
        try:
            yield from _landing(client, dict(waiting), notice)
        finally:
            for future in waiting:
                future.cancel()
    finally:
        client.close()


def _landing(
    client: Any,  # noqa: ANN401 - distributed has no types
    waiting: "dict[futures.Future[bytes], ScoreTask]",
    notice: Callable[[str], None],
) -> Iterator[tuple[ScoreTask, bytes | ChangeoverError]]:
    alone = 0.0
    while waiting:
        done, _ = futures.wait(waiting, timeout=_LOOK_SECONDS, return_when=futures.FIRST_COMPLETED)
        for future in done:
            task = waiting.pop(future)
            yield task, outcome(future, task.shot)
        alone = 0.0 if done or _workers(client) else alone + _LOOK_SECONDS
        if alone == _LOOK_SECONDS:
            notice(f"the Dask cluster has no worker; waiting {_ALONE_SECONDS:.0f} s for one")
        if alone >= _ALONE_SECONDS:
            raise _unreachable(client.scheduler.addr, f"none for {_ALONE_SECONDS:.0f} s")


def outcome(future: "futures.Future[bytes]", shot: str) -> bytes | ChangeoverError:
    """What came of a task that has ended: its bundle's bytes, what our code said, or what befell the worker."""
    from distributed.scheduler import KilledWorker

    try:
        answer: object = future.result()
    except ChangeoverError as error:
        return error
    except KilledWorker:
        return _failed(shot, "workers that died of it one after the other", "look at the workers' logs and limits")
    except Exception as error:  # noqa: BLE001 - whatever a foreign process raises is one line here
        return _failed(shot, one_line(f"{type(error).__name__}: {error}"), _SAME)
    return answer if isinstance(answer, bytes) else _failed(shot, f"{type(answer).__name__}, no bytes", _SAME)


def _failed(shot: str, actual: str, remedy: str) -> MeasurementError:
    return MeasurementError(
        "Dask worker", where=f"golden shot {shot}", expected="a result", actual=actual, remedy=remedy
    )


def _client(address: str) -> Any:  # noqa: ANN401 - distributed has no types
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            "installation",
            where="--executor",
            expected="the Python package distributed",
            actual="none",
            remedy="install it where changeover runs: pip install 'changeover[dask]'",
        ) from error
    try:
        # Dask goes on trying where nobody listens, until its time is up.
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        return distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, UnicodeError) as error:
        raise _unreachable(address, "no answer") from error


def _workers(client: Any) -> int:  # noqa: ANN401 - distributed has no types
    return len(client.scheduler_info(n_workers=-1)["workers"])


def _unreachable(address: str, actual: str) -> UnreachableError:
    return UnreachableError(
        "Dask cluster",
        where=address,
        expected="a scheduler with workers",
        actual=actual,
        remedy="start it, or run without --executor; what was scored is kept",
    )
