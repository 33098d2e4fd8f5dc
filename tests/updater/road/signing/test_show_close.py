import json
from typing import Any

from changeover_updater.shows import read_needs


def test_a_show_is_open_until_its_closing_is_signed_by_all_who_must(signers: Any) -> None:
    world, bob = signers.world, signers.bob
    world.ok("promote", "tiny-roto@1.0.0", "--channel", "show/atlas", "--reason", "start")
    enrol = ("keys", "enrol", str(world.root / "bobs" / "bob.pub"), "--scope", "shows/atlas", "--role", "promoter")
    more = ("--owner", "bob", "--threshold", "2", "--reason", "two of us")
    world.ok(*enrol, *more, "--with", str(world.root / "bobs" / "bob.pem"))
    before = read_needs(world.site, world.station)

    told = json.loads(world.ok("show", "close", "atlas", "--reason", "delivered", "--json"))

    assert told["waits_as"] == signers.waiting()
    assert read_needs(world.site, world.station) == before
    assert json.loads(world.ok("show", "list", "--json"))[0]["open"]

    bob.ok("approve", signers.waiting())
    assert json.loads(world.ok("show", "list", "--json"))[0]["open"]
    # Bob has no site key: whoever has it lets stations see what was signed.
    world.ok("sync")

    assert not json.loads(world.ok("show", "list", "--json"))[0]["open"]
    (why,) = read_needs(world.site, world.station).values()
    assert why == ("channel stable",)
