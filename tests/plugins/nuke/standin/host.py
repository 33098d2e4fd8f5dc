"""Start the plug-in as Nuke does: run ``init.py``, then ``menu.py`` where there are windows, then the test's lines.

Called as ``python -I -S host.py PLUGIN_FOLDER VERSION MODE SCRIPT``; MODE is ``gui`` or ``terminal``. What SCRIPT puts
into `answer` is printed as one line of JSON.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, PTH100, PTH118, PTH120, PTH123, S102
# It runs under every Python that Nuke embeds, so it is written like theirs.

import json
import os
import sys


def run(path):
    with open(path, encoding="utf-8") as stream:
        exec(compile(stream.read(), path, "exec"), {"__name__": "__init__", "__file__": path})


def main(plugin, version, mode, script):
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import nuke

    nuke.NUKE_VERSION_STRING = version
    nuke.NUKE_VERSION_MAJOR, nuke.NUKE_VERSION_MINOR = (int(part) for part in version.partition("v")[0].split("."))
    nuke.GUI = mode == "gui"
    sys.path.insert(0, plugin)
    run(os.path.join(plugin, "init.py"))
    if nuke.GUI:
        run(os.path.join(plugin, "menu.py"))
    names = {"nuke": nuke, "answer": None}
    exec(compile(script, "script", "exec"), names)
    sys.stdout.write(json.dumps(names["answer"]) + "\n")


main(*sys.argv[1:5])
