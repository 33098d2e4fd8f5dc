"""One file from one mirror: workers that stream runs of blocks, and a watch over how they get on.

The thread that asked waits for what the workers report, counts progress, and looks at the pace; it alone decides that
it is over. A worker that hangs in a dead connection is left behind: it is a daemon, and what it may still bring is
taken by nobody.
"""

import contextlib
import hashlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator

from changeover_registry.errors import ChangeoverError, TrustError, UnreachableError
from changeover_registry.records.release import BLOCK_BYTES
from changeover_registry.transport.interface import BusyError, NoRangesError, NotThereError, Transport
from changeover_updater.transfer.limits import Limits, Pace, next_run, wait_seconds
from changeover_updater.transfer.partial import Partial, block_length

__all__ = ["From"]

_LOOK_SECONDS = 0.5
"""How often the pace is looked at."""


class _EndedError(Exception):
    """The stream ended, without an error, so many bytes into a block that it should have held."""

    def __init__(self, block: int, held: int) -> None:
        super().__init__(block, held)
        self.block = block
        self.held = held


class From:
    """What is missing of one file, from one mirror."""

    def __init__(
        self, transport: Transport, path: str, partial: Partial, progress: Callable[[int], None], limits: Limits
    ) -> None:
        self._transport = transport
        self._path = path
        self._partial = partial
        self._progress = progress
        self._limits = limits
        self._refused: set[int] = set()
        self._parts = True

    def fetch(self) -> None:
        """Bring every missing block, in parts if the mirror has parts.

        Raises:
            TrustError: A block has another digest twice, or the file there is shorter than the record says.
            UnreachableError: The mirror does not answer, is too slow, or breaks off again and again.
        """
        whole = False
        while missing := self._partial.missing():
            try:
                self._round(whole=whole)
            except NoRangesError:
                self._parts, whole = False, True
            except _EndedError as ended:
                # It seems to have less of the file. One stream, which begins where we have nothing, tells.
                if whole and len(self._partial.missing()) == len(missing):
                    raise self._short(ended) from None
                whole = True

    def _round(self, *, whole: bool) -> None:
        """Run workers until nothing is missing; raises what stopped them."""
        work = _Work(self._partial, self._limits, whole=whole, parts=self._parts)
        count = 1 if whole else min(self._limits.connections, len(self._partial.missing()))
        for _ in range(count):
            threading.Thread(target=self._work, args=(work,), daemon=True).start()
        try:
            self._watch(work, count)
        finally:
            work.stop.set()

    def _watch(self, work: "_Work", running: int) -> None:
        pace = Pace(self._limits)
        while running:
            with contextlib.suppress(queue.Empty):
                landed = work.landed.get(timeout=_LOOK_SECONDS)
                if landed is None:
                    running -= 1
                else:
                    self._progress(landed)
            if pace.too_slow(time.monotonic(), work.received, waiting=work.waiting > 0):
                raise self._slow()
        if work.error is not None:
            raise work.error

    def _work(self, work: "_Work") -> None:
        """One worker: takes runs and lands them until there are none, or somebody says stop."""
        buffer = bytearray(BLOCK_BYTES)
        try:
            while run := work.take():
                error = self._try(work, run, buffer)
                work.give_back(run)
                if error is not None:
                    work.failed(error)
        except BaseException as error:  # noqa: BLE001 - it goes on in the thread that waits
            work.end(error)
        finally:
            work.landed.put(None)

    def _try(self, work: "_Work", run: range, buffer: bytearray) -> ChangeoverError | None:
        """Land a run; the error of one that may go better the next time."""
        try:
            self._land(work, run, buffer)
        except (BusyError, NoRangesError, NotThereError):
            raise
        except (UnreachableError, TrustError) as error:
            return error
        return None

    def _land(self, work: "_Work", run: range, buffer: bytearray) -> None:
        """Verify and write the blocks of one run as they come."""
        stream = self._transport.stream(self._path, offset=run.start * BLOCK_BYTES, length=work.length(run))
        with contextlib.closing(stream):
            pieces = _Pieces(work.listen(stream))
            for block in run:
                length = block_length(self._partial.entry, block)
                digest = pieces.fill(block, memoryview(buffer)[:length])
                if not self._partial.lacks(block):
                    continue
                if digest != self._partial.entry.blocks[block]:
                    raise self._wrong(work, block, digest)
                if self._partial.put(block, memoryview(buffer)[:length]):
                    work.lands(length)

    def _wrong(self, work: "_Work", block: int, actual: str) -> ChangeoverError:
        start, length = block * BLOCK_BYTES, block_length(self._partial.entry, block)
        error = TrustError(
            "digest",
            where=f"{self._partial.entry.path}, bytes {start} to {start + length - 1} ({self._where()})",
            expected=f"sha256 {self._partial.entry.blocks[block]}",
            actual=f"sha256 {actual}",
            remedy="ask the vendor; these are not the bytes that were signed, and nothing of them was kept",
        )
        if block in self._refused:
            work.end(error)
        self._refused.add(block)
        return error

    def _short(self, ended: _EndedError) -> TrustError:
        return TrustError(
            "length",
            where=f"{self._partial.entry.path} ({self._where()})",
            expected=f"{self._partial.entry.size} bytes",
            actual=f"{ended.block * BLOCK_BYTES + ended.held} bytes",
            remedy="ask the vendor whether the file was copied whole, then run the command again",
        )

    def _slow(self) -> UnreachableError:
        floor, seconds = self._limits.floor_bytes_per_second, self._limits.floor_seconds
        return UnreachableError(
            "speed",
            where=self._where(),
            expected=f"at least {floor // 1024} KiB a second",
            actual=f"less, for {seconds:g} seconds",
            remedy="check the network, or trust the vendor with a nearer mirror; what came is kept",
        )

    def _where(self) -> str:
        return f"{self._transport.location}: {self._path}"


class _Work:
    """What the workers of one round share: the blocks nobody has taken, what came, and what went wrong."""

    def __init__(self, partial: Partial, limits: Limits, *, whole: bool, parts: bool) -> None:
        self.landed: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.received = 0
        self.waiting = 0
        self.error: BaseException | None = None
        self._partial = partial
        self._limits = limits
        self._whole = whole
        self._parts = parts
        self._todo = partial.missing()
        self._failures = 0
        self._proven = False
        self._taken = 0
        self._changed = threading.Condition()

    def take(self) -> range | None:
        """The next run for a worker; None when there is none, or all shall stop.

        Until the mirror has shown that it gives parts, one worker asks alone: a side that sends the whole file to
        each would send it twice.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.stop.is_set() or self._proven or not self._taken)
            if self.stop.is_set() or not self._todo:
                return None
            self._taken += 1
            if self._whole:
                run = range(self._todo[0], len(self._partial.entry.blocks))
            else:
                run = next_run(self._todo, self._limits)
            self._todo = [block for block in self._todo if block not in run]
            return run

    def length(self, run: range) -> int | None:
        """How many bytes a run asks for; None for a file that is taken whole."""
        entry = self._partial.entry
        if self._whole or len(run) == len(entry.blocks):
            return None
        return min(run.stop * BLOCK_BYTES, entry.size) - run.start * BLOCK_BYTES

    def give_back(self, run: range) -> None:
        """What of a run did not land is anybody's again."""
        with self._changed:
            self._taken -= 1
            left = [block for block in run if self._partial.lacks(block)]
            self._todo = sorted({*self._todo, *left})
            self._changed.notify_all()

    def listen(self, stream: Generator[bytes, None, None]) -> Iterator[bytes]:
        """The pieces of a stream, counted, with the time spent waiting for them marked; ends at stop."""
        while not self.stop.is_set():
            with self._changed:
                self.waiting += 1
            try:
                piece = next(stream, None)
            finally:
                with self._changed:
                    self.waiting -= 1
            if piece is None:
                return
            with self._changed:
                self.received += len(piece)
                if not self._proven:
                    self._proven = True
                    self._changed.notify_all()
            yield piece

    def lands(self, length: int) -> None:
        """A new block is there. Where there are no parts it was paid for with all before it, and excuses no failure."""
        if self._parts:
            self._failures = 0
        self.landed.put(length)

    def failed(self, error: ChangeoverError) -> None:
        """Wait and let the worker try again, unless nothing new came through several failures in a row."""
        with self._changed:
            self._failures += 1
            failures = self._failures
        if failures >= self._limits.tries:
            self.end(error)
        self.stop.wait(wait_seconds(failures, self._limits))

    def end(self, error: BaseException) -> None:
        """Stop every worker; the first reason is the one that counts."""
        with self._changed:
            if self.error is None and not self.stop.is_set():
                self.error = error
            self.stop.set()
            self._changed.notify_all()


class _Pieces:
    """A stream cut into blocks."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def fill(self, block: int, buffer: memoryview) -> str:
        """Fill `buffer` with the next bytes; answers with their sha256, made while they are still in the cache.

        Raises:
            _EndedError: The stream ends before.
        """
        digest = hashlib.sha256()
        filled = 0
        while filled < len(buffer):
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    raise _EndedError(block, filled)
                self._rest = memoryview(piece)
            part = self._rest[: len(buffer) - filled]
            self._rest = self._rest[len(part) :]
            digest.update(part)
            buffer[filled : filled + len(part)] = part
            filled += len(part)
        return digest.hexdigest()
