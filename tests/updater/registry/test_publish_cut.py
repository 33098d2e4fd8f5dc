"""`vendor publish` cut off at requests to MLflow, and killed at requests to S3: the old state holds, it completes."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from changeover_registry.client import Client
from changeover_registry.errors import UnreachableError
from changeover_registry.repository.vendor import fetch_record, object_path, open_vendor
from changeover_registry.transport import open_transport, s3
from changeover_servers import KINDS, Cut, CuttingProxy, MlflowServer, S3Store
from changeover_updater import vendor
from changeover_updater.vendor_home import VendorHome, make_home, open_home

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
pytest.importorskip("boto3", reason="the extra s3 is not installed")

SHARE = 0.72
NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass
class Behind:
    """A vendor's home whose MLflow and whose bucket are behind cables that can be cut, and that has published once."""

    home: VendorHome
    mlflow: CuttingProxy
    bucket: CuttingProxy

    def versions(self, state: Path) -> tuple[str, ...]:
        """What a studio sees in the home's repository; every byte of it read and verified."""
        return seen(self.home, str(self.home.repository), state)


@pytest.fixture(scope="module")
def base(
    tmp_path_factory: pytest.TempPathFactory, mlflow_server: Callable[..., MlflowServer], release_folders: Path
) -> VendorHome:
    """A home with two registered releases, of which the first is published."""
    server = mlflow_server(**KINDS["moto"])
    folder = tmp_path_factory.mktemp("cut")
    home = make_home(folder / "home", "cut", server.uri, NOW).home
    for version in ("1.0.0", "1.1.0"):
        own = Path(shutil.copytree(release_folders / "cat", folder / version))
        toml = (own / "release.toml").read_text(encoding="utf-8")
        toml = toml.replace("acme/edge-roto", "cut/edge-roto").replace('version = "1.0.0"', f'version = "{version}"')
        (own / "release.toml").write_text(toml, encoding="utf-8")
        (own / "nuke-cat-torch2.1" / "EdgeRoto.cat").write_bytes(version.encode() * 1000)
        vendor.register(home, own, NOW)
    vendor.publish(home, "cut/edge-roto", "1.0.0", NOW)
    return home


@pytest.fixture
def behind(
    base: VendorHome, tmp_path: Path, cutting_proxy: Callable[[str], CuttingProxy], moto: S3Store
) -> Iterator[Behind]:
    shutil.copytree(base.folder, tmp_path / "home")
    mlflow, bucket = cutting_proxy(base.mlflow), cutting_proxy(moto.endpoint)
    toml = tmp_path / "home" / "vendor.toml"
    text = toml.read_text(encoding="utf-8").replace(base.mlflow, mlflow.url)
    location = f"s3://{moto.bucket()}/cut"
    toml.write_text(text.replace("publish = []", f'publish = ["{location}"]'), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**moto.through(bucket.url).environment, "AWS_MAX_ATTEMPTS": "1"}.items():
            patch.setenv(name, value)
        s3._client.cache_clear()
        yield Behind(open_home(tmp_path / "home"), mlflow, bucket)
    s3._client.cache_clear()


def seen(home: VendorHome, location: str, state: Path) -> tuple[str, ...]:
    transport = open_transport(location)
    view = open_vendor(Client(transport, state, home.keys.anchor.read_bytes()), home.vendor)
    index = view.indexes["edge-roto"]
    for entry in index.releases:
        record, _ = fetch_record(transport, entry, "cut/edge-roto")
        (file,) = record.variants[0].files
        data = transport.read(object_path(file.sha256), limit=file.size)
        assert data == entry.version.encode() * 1000
    return tuple(entry.version for entry in index.releases)


@pytest.mark.parametrize("when", ["before", "after"])
def test_cut_at_any_request_to_mlflow_nothing_is_signed_and_the_next_try_completes(
    behind: Behind, tmp_path: Path, whole: bool, when: Literal["before", "after"]
) -> None:
    before = {path: path.read_bytes() for path in behind.home.repository.rglob("*") if path.is_file()}
    shutil.copytree(behind.home.folder, tmp_path / "copy")
    for _ in range(2):
        # The client asks some things of a server once; only the second time tells how many requests each try takes.
        behind.mlflow.heal()
        vendor.publish(open_home(tmp_path / "copy"), "cut/edge-roto", "1.1.0", NOW)
    requests = len(behind.mlflow.requests)
    numbers = range(1, requests + 1) if whole else (1, requests // 2, requests)

    for number in numbers:
        behind.mlflow.cut(Cut(request=number, when=when))
        with pytest.raises(UnreachableError):
            vendor.publish(behind.home, "cut/edge-roto", "1.1.0", NOW)
        assert behind.mlflow.was_cut
        assert {path: path.read_bytes() for path in behind.home.repository.rglob("*") if path.is_file()} == before
        assert behind.versions(tmp_path / "state") == ("1.0.0",)
        assert not (behind.home.folder / ".publishing").exists()

    behind.mlflow.heal()
    assert requests > 5
    assert vendor.publish(behind.home, "cut/edge-roto", "1.1.0", NOW).new
    assert behind.versions(tmp_path / "state") == ("1.0.0", "1.1.0")


@pytest.mark.parametrize("share", [SHARE, *(number / 20 for number in range(1, 20))])
def test_killed_while_it_carries_the_place_serves_the_old_state_and_the_next_try_completes(
    behind: Behind, moto: S3Store, tmp_path: Path, whole: bool, share: float
) -> None:
    if share != SHARE and not whole:
        pytest.skip("part of make sweeps")
    command = [sys.executable, "-m", "changeover_updater", "vendor"]
    here = ["--home", str(behind.home.folder)]
    subprocess.run([*command, "carry", *here], check=True, capture_output=True, timeout=120)
    (location,) = behind.home.publish
    client = moto.client()
    assert seen(behind.home, location, tmp_path / "state") == ("1.0.0",)
    vendor.publish(behind.home, "cut/edge-roto", "1.1.0", NOW)
    behind.bucket.heal()

    with subprocess.Popen([*command, "carry", *here], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as carrier:
        # A carry of one release takes about forty requests.
        while len(behind.bucket.requests) < 40 * share and carrier.poll() is None:
            time.sleep(0.001)
        carrier.send_signal(signal.SIGKILL)
    assert carrier.returncode in {0, -signal.SIGKILL}

    assert seen(behind.home, location, tmp_path / "state") in {("1.0.0",), ("1.0.0", "1.1.0")}
    publish = [*command, "publish", "edge-roto@1.1.0", *here, "--json"]
    again = subprocess.run(publish, capture_output=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert not json.loads(again.stdout)["new"]
    assert seen(behind.home, location, tmp_path / "state") == ("1.0.0", "1.1.0")
    assert client.list_multipart_uploads(Bucket=location.split("/")[2]).get("Uploads", []) == []


def test_a_studio_that_reads_all_the_while_never_sees_half_a_state(
    behind: Behind, moto: S3Store, tmp_path: Path
) -> None:
    from changeover_updater.places import carry_all

    (location,) = behind.home.publish
    carry_all(behind.home)
    vendor.publish(behind.home, "cut/edge-roto", "1.1.0", NOW)
    found: list[tuple[str, ...]] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            found.append(seen(behind.home, location, tmp_path / "state"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        carry_all(behind.home)
    finally:
        time.sleep(0.2)
        over.set()
        reader.join()

    assert set(found) <= {("1.0.0",), ("1.0.0", "1.1.0")}
    assert found == sorted(found)
    assert seen(behind.home, location, tmp_path / "state") == ("1.0.0", "1.1.0")
