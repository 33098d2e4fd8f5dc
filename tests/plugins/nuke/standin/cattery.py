"""An oracle of how Nuke's Cattery finds packages, written from its described rules and nothing else.

A repository is a child of a plug-in path whose name is "cattery" in any case. Packages are the folders below it that
hold a ``cat.json``, found by walking without following links. A file that does not parse stops everything. A package
counts if its minimum, a number, is at most ``float("<major>.<minor>")`` and it names at least one file. Names with
spaces get underscores; path and name are pasted unquoted.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204, PTH112, PTH118, PTH123, PTH208, UP004, UP031, UP032
# It runs under every Python that Nuke embeds, so it is written like theirs.

import json
import os


class Package(object):
    def __init__(self, folder, body):
        self.folder, self.body = folder, body

    def pasted(self):
        """Name and script text of each file of the package."""
        found = []
        for cat in self.body["cats"]:
            path = os.path.join(self.folder, cat["filepath"]).replace("\\", "/")
            name = (cat.get("name") or cat["filepath"]).replace(" ", "_")
            text = "Inference {\n modelFile %s\n name %s\n }" % (path, name)
            found.append((cat.get("name") or cat["filepath"], path, text))
        return found


def repositories(plugin_path):
    found = []
    for path in plugin_path:
        if os.path.isdir(path):
            found += [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.lower() == "cattery"]
    return found


def packages(plugin_path, major, minor):
    target = float("{}.{}".format(major, minor))
    found = []
    for repository in repositories(plugin_path):
        for folder, _, files in os.walk(repository, followlinks=False):
            if "cat.json" in files:
                with open(os.path.join(folder, "cat.json")) as stream:
                    body = json.load(stream)
                if body.get("minimum_nuke_version_required", 13.1) <= target and body.get("cats"):
                    found.append(Package(folder, body))
    return found


def menu(plugin_path, major, minor):
    """Menu entries by name: a later entry of the same name replaces an earlier one."""
    entries = {}
    for package in packages(plugin_path, major, minor):
        for name, path, text in package.pasted():
            entries[name] = (path, text)
    return entries
