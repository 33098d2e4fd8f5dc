import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_updater.cli._show_facts import show_facts
from changeover_updater.cli.main import run
from changeover_validators.classes import host_class
from changeover_validators.probe import forged_host, forged_hosts, nuke_found

Ask = Callable[..., tuple[int, str, str]]
HEAVY = ("mlflow", "torch", "onnxruntime", "boto3", "onnx", "numpy", "scipy", "OpenEXR", "pynvml", "archspec")
LIGHT = """
import sys
from changeover_updater.cli.main import run
code = run(sys.argv[1:])
print("LOADED", code, sorted(name for name in {heavy!r} if name in sys.modules))
"""


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run ``changeover facts`` with a host.toml of these lines; exit code, standard output and error."""

    def call(*arguments: str, host_toml: str = "") -> tuple[int, str, str]:
        config = tmp_path / "host.toml"
        config.write_text(f'schema = "changeover.host/1"\n{host_toml}', encoding="utf-8")
        code = run(["--config", str(config), "facts", *arguments])
        out, error = capsys.readouterr()
        return code, out, error

    return call


def shown(facts: HostFacts, capsys: pytest.CaptureFixture[str]) -> str:
    show_facts(facts)
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", forged_hosts())
def test_shipped_host_is_printed_as_a_file_that_every_host_option_takes(ask: Ask, tmp_path: Path, name: str) -> None:
    code, out, _ = ask("--host", name, "--json")
    path = tmp_path / "facts.json"
    path.write_text(out, encoding="utf-8")
    again, same, _ = ask("--host", str(path), "--json")

    assert (code, again) == (0, 0)
    assert same == out
    assert HostFacts.from_object(json.loads(out), where=name) == forged_host(name)


def test_this_machine_is_printed_as_facts_whose_unknowns_have_reasons(ask: Ask) -> None:
    code, out, _ = ask("--json")
    facts = HostFacts.from_object(json.loads(out), where="facts")

    assert code == 0
    for fact in (facts.gpus, facts.runtimes, facts.cpu_level, facts.cpu):
        assert isinstance(fact, Unknown)
        assert "[runtimes]" in fact.unknown


def test_host_that_is_neither_a_file_nor_shipped_is_an_input_error_that_lists_them(ask: Ask) -> None:
    code, out, error = ask("--host", "nowhere")

    assert (code, out) == (2, "")
    assert "rtx-a4000-16gib" in error


@pytest.mark.parametrize("arguments", [["facts", "--json"], ["facts"], ["facts", "--host", "a100-mig-80gib"]])
def test_facts_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "host.toml").write_text('schema = "changeover.host/1"\n', encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-c", LIGHT.format(heavy=HEAVY), "--config", str(tmp_path / "host.toml"), *arguments],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.stdout.splitlines()[-1] == "LOADED 0 []", done.stdout + done.stderr


@pytest.mark.parametrize("uuid", ["GPU-9b36c24f-b9bc-1dfa-b6c7-1ea6b42c5b75", "MIG-GPU-9b36c24f/3/0"])
def test_gpu_that_host_toml_names_for_nuke_is_among_the_facts(ask: Ask, uuid: str) -> None:
    _, out, _ = ask("--json", host_toml=f'nuke_gpu = "{uuid}"\n')

    assert json.loads(out)["nuke_gpu"] == uuid


def test_name_or_number_in_place_of_a_uuid_is_an_input_error(ask: Ask) -> None:
    for wrong in ('"0"', '"RTX A4000"', "0"):
        code, _, error = ask("--json", host_toml=f"nuke_gpu = {wrong}\n")
        assert code == 2
        assert "nuke_gpu" in error


@pytest.mark.parametrize("name", forged_hosts())
def test_person_sees_every_card_and_why_something_is_unknown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = forged_host(name)

    text = shown(facts, capsys)

    for gpu in facts.gpus if isinstance(facts.gpus, tuple) else ():
        assert gpu.name in text
    for runtime in facts.runtimes if isinstance(facts.runtimes, tuple) else ():
        assert runtime.version in text
    assert host_class(facts) in text
    assert ("GPUs: unknown" in text) == isinstance(facts.gpus, Unknown)


def test_person_sees_instances_driver_model_and_what_the_runtime_was_built_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    divided, windows = shown(forged_host("a100-mig-80gib"), capsys), shown(forged_host("windows-tcc-16gib"), capsys)
    mac = shown(forged_host("macos-no-gpu"), capsys)

    assert "instance 3g.40gb 40192" in divided
    assert "compute, divided" in divided
    assert "compute, tcc" in windows
    assert "CUDA 12.8, cuDNN 9, compute_90 sm_52" in windows
    assert "GPUs: none" in mac


def test_person_sees_which_card_nuke_is_set_to_or_that_it_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    bound = forged_host("two-unlike-bound")

    assert f"Nuke is set to {bound.nuke_gpu} (NVIDIA RTX A6000)" in shown(bound, capsys)
    gone = shown(bound.model_copy(update={"nuke_gpu": "GPU-sold"}), capsys)
    assert "Nuke is set to GPU-sold, which is not among the GPUs of this host" in gone


def test_person_sees_who_says_that_a_nuke_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    facts = forged_host("no-gpu")
    named = facts.nukes[0].model_copy(update={"path": "/opt/nuke"})
    found = nuke_found("16.0v2", "/usr/local/Nuke16.0v2")

    text = shown(facts.model_copy(update={"nukes": (*facts.nukes, named, found)}), capsys)

    assert "15.1v3 2.1.1 host.toml 15.1v3 2.1.1 host.toml, a check may start it" in text
    assert "16.0v2 2.1.1 found in /usr/local/Nuke16.0v2" in text


def test_unknown_parts_of_a_card_and_a_runtime_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    facts, secret = forged_host("a100-mig-80gib"), Unknown(unknown="withheld")
    assert isinstance(facts.gpus, tuple)
    changes: dict[str, Any] = {"instances": secret, "mig": secret, "display": secret, "accounting": True}
    gpu = facts.gpus[0].model_copy(update=changes)

    text = shown(facts.model_copy(update={"gpus": (gpu,), "runtimes": secret}), capsys)

    assert "instances unknown (withheld)" in text
    assert text.count("withheld") == 4
    assert "accounts" in text
    assert "runtimes: unknown: withheld" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("null", "found None"),
        ("[]", "found []"),
        ("1e999", "found inf"),
        ('{"schema": "changeover.facts/1", "schema": "changeover.facts/1"}', "the key 'schema' twice in one object"),
    ],
)
def test_file_that_holds_no_facts_is_an_input_error_that_names_it(
    ask: Ask, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "facts.json"
    path.write_text(text, encoding="utf-8")

    code, out, error = ask("--host", str(path))

    assert (code, out) == (2, "")
    assert str(path) in error
    assert words in error


@pytest.mark.parametrize("version", ["banana", "1", "1.26.x", "", "9" * 5000 + ".1", "1.0\n"])
def test_runtime_whose_version_is_none_is_refused(version: str) -> None:
    body = json.loads(forged_host("rtx-a4000-16gib").to_bytes())
    body["runtimes"][0]["version"] = version

    with pytest.raises(InvalidInputError, match="version"):
        HostFacts.from_object(body, where="facts.json")


@pytest.mark.parametrize("version", ["1.26.0", "2.1.0a0+32f93b1.nv24.1", "2.9.0.dev20250901+cu128", "1.17.0rc2", "2.7"])
def test_versions_of_releases_and_own_builds_are_read_and_can_be_compared(version: str) -> None:
    body = json.loads(forged_host("rtx-a4000-16gib").to_bytes())
    body["runtimes"][0]["version"] = version

    facts = HostFacts.from_object(body, where="facts.json")

    assert isinstance(facts.runtimes, tuple)
    assert Version(facts.runtimes[0].version).release
