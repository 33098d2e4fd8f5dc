import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_updater.writers import write_cattery

HERE = Path(__file__).parent
PLUGIN = HERE.parents[2] / "plugins" / "nuke"

READER = """
import os, sys
sys.path[:0] = sys.argv[1:3]
from changeover_nuke_answers import Question, resolve
from changeover_nuke_store import open_generation
seen = []
print("ready", flush=True)
while True:
    opened = open_generation(os.environ)
    found = resolve(opened.frozen, Question("acme/roto", "nuke-inference", "15.1"), None)
    number = opened.frozen.number
    assert opened.folder.endswith("/" + str(number)), opened.folder
    assert found.release.version == str(number) + ".0.0", (number, found)
    assert os.path.isfile(found.path), found
    assert os.path.isdir(opened.folder + "/nuke/15.1/Cattery"), opened.folder
    if not seen or seen[-1] != number:
        seen.append(number)
    if number == int(sys.argv[3]):
        break
print(len(seen), seen == sorted(seen), flush=True)
"""


def test_a_reader_gets_a_whole_generation_at_every_instant_of_a_hundred_changeovers(situation: Any) -> None:
    store = Store.create(situation.root)
    station = Station(store, situation.station)
    releases = [situation.release("acme/roto", f"{number}.0.0") for number in range(101)]

    def change_over(number: int) -> None:
        generation = situation.generation(number, releases[number], stable=(releases[number],))
        station.add_generation(generation, lambda folder: write_cattery(generation, folder, store.root))
        station.point(number)

    change_over(1)
    command = [sys.executable, "-I", "-S", "-c", READER, str(PLUGIN), str(HERE / "standin"), "100"]
    with subprocess.Popen(
        command, env={**os.environ, **situation.environ()}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(2, 101):
            change_over(number)
        out, errors = reader.communicate(timeout=60)

    assert (reader.returncode, errors) == (0, "")
    count, forwards = out.split()
    assert int(count) > 3, "the reader saw hardly any of the changeovers, so this shows nothing"
    assert forwards == "True"
