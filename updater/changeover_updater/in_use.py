"""The releases that a station's generation holds, as verified records: what a change of the host may touch."""

from changeover_registry.records.release import Release
from changeover_updater.station import Station
from changeover_updater.studio import Studio

__all__ = ["releases_in_use"]


def releases_in_use(station: Station, studio: Studio) -> tuple[Release, ...]:
    """Every release of the generation in use whose record this build can read, once each, in its order.

    Raises:
        InvalidInputError: The pointer was damaged.
        RefusedError: It names a generation that is not there.
    """
    generation = station.in_use()
    found = (studio.release(held.ref()) for held in generation.releases) if generation else ()
    return tuple(release for release in found if release is not None)
