"""What a studio adopted reaches its site behind an air gap as the same bytes, and by its own word alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from changeover_registry.records.facts import NukeInstall


def test_adopted_file_is_carried_with_the_choice_and_served_there(
    tmp_path: Path, world_at: Callable[..., Any], make_site: Callable[..., Any]
) -> None:
    world = world_at(tmp_path / "here")
    world.without_mlflow()
    world.has_nukes(NukeInstall(version="15.1v3", torch_line="2.1.1"))
    cat, bundle = tmp_path / "hair.cat", tmp_path / "bundle.tar"
    cat.write_bytes(bytes(range(256)) * 777)
    world.ok("adopt", str(cat), "--show", "atlas", "--reason", "it was there")
    world.ok("export", "--choice", str(bundle))
    root = world.root / "vendors" / "studio" / "keys" / "online" / "root.json"
    there = make_site(tmp_path / "there", (world.site.choice / "metadata" / "1.root.json").read_bytes())
    config = there.root / "host.toml"
    config.write_text(config.read_text() + '\n[[nukes]]\nversion = "15.1v3"\n')

    there.ok("trust", "add", "studio", str(bundle), "--root", str(root), "--own")
    there.ok("import", str(bundle))
    code, out, err = there.run("update")

    (served,) = (there.root / "store" / "releases" / "studio").rglob("*.cat")
    assert served.read_bytes() == cat.read_bytes()
    assert (code, "show/atlas" in out) == (0, True), err
