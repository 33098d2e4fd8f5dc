"""What is written into a station's record: an intent before the work, done or failed after it, by one transaction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from changeover_registry.records.station import Event, EventKind

__all__ = ["EventMaker"]


@dataclass(frozen=True, slots=True)
class EventMaker:
    """What all events of one transaction share."""

    transaction: str
    what: EventKind
    who: str
    when: str
    why: str
    before: int | None
    after: int | None

    def event(self, phase: Literal["intent", "done", "failed"]) -> Callable[[int, str | None], Event]:
        """The maker that the chain calls with the event's number and its predecessor's digest."""

        def make(sequence: int, previous: str | None) -> Event:
            return Event(
                sequence=sequence,
                previous=previous,
                transaction=self.transaction,
                phase=phase,
                what=self.what,
                who=self.who,
                when=self.when,
                why=self.why,
                before=self.before,
                after=self.after,
            )

        return make
