"""Object stores that speak S3: OpenStack Swift, which is durable and strict, and moto, which has AWS's semantics."""

import dataclasses
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from changeover_servers.process import answers, free_ports, start

__all__ = ["S3Store", "start_moto", "start_swift"]

ROOT = Path(__file__).parents[3]
_NUMBERS = itertools.count()
_BUSY = 503
_READY_SECONDS = 30

_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, first = sys.argv[1], int(sys.argv[2])
for offset, name in enumerate(("account", "container", "object"), 1):
    builder = RingBuilder(4, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(sys.argv[2 + offset]), "device": "d1",
                     "weight": 1.0, "replication_ip": "127.0.0.1", "replication_port": int(sys.argv[2 + offset])})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
"""
_FILTERS = "catch_errors gatekeeper healthcheck listing_formats s3api tempauth copy slo versioned_writes symlink"
_SETTINGS = {
    "tempauth": "user_roto_ci = cisecret .admin\n",
    "s3api": "s3_acl = false\nlocation = us-east-1\n",
    "versioned_writes": "allow_object_versioning = true\n",
}


@dataclass(frozen=True)
class S3Store:
    """An object store by its address, with a key that may do everything.

    Args:
        name: Which one: ``swift`` or ``moto``.
        endpoint: ``http://127.0.0.1:PORT``.
        access_key: Of AWS's two words.
        secret_key: The other.
        region: What requests are signed for.
    """

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def through(self, endpoint: str) -> "S3Store":
        """The same store behind another address, such as a proxy's."""
        return dataclasses.replace(self, endpoint=endpoint)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which boto3, and with them MLflow and our own S3 transport, find this store."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
        }

    def client(self) -> Any:
        """A boto3 client that tries everything once."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def bucket(self) -> str:
        """Make a bucket that nobody else has; returns its name.

        Swift's proxy answers before its servers for accounts and containers do: for a moment it says 503.
        """
        from botocore.exceptions import ClientError

        name, deadline = f"bucket-{next(_NUMBERS)}", time.monotonic() + _READY_SECONDS
        while True:
            try:
                self.client().create_bucket(Bucket=name)
            except ClientError as error:
                busy = error.response["ResponseMetadata"]["HTTPStatusCode"] == _BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return name


def start_moto(held: ExitStack) -> S3Store:
    """A moto server; it also has AWS's other services, such as KMS."""
    pytest.importorskip("moto.server", reason="moto is not installed")
    (port,) = free_ports(1)
    folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="changeover-moto-")))
    endpoint = f"http://127.0.0.1:{port}"
    server = start(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        folder / "log",
        lambda: answers(f"{endpoint}/moto-api/"),
    )
    held.callback(server.stop)
    return S3Store("moto", endpoint, "testing", "testing")


def start_swift(held: ExitStack) -> S3Store:
    """OpenStack Swift with its S3 API: a proxy and one server each for accounts, containers and objects."""
    python = ROOT / ".venv" / "servers" / "bin" / "python"
    if not python.exists():
        pytest.skip("OpenStack Swift is not here: run .ci/setup, which makes .venv/servers")
    folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="changeover-swift-")))
    for part in ("etc", "devs/d1"):
        (folder / part).mkdir(parents=True)
    # No process may still write there when the folder goes: those are stopped first.
    stopped = held.enter_context(ExitStack())
    ports = free_ports(4)
    _configure(folder, ports)
    rings = [str(python), "-c", _RINGS, str(folder / "etc"), *(str(port) for port in ports)]
    done = subprocess.run(rings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    endpoint = f"http://127.0.0.1:{ports[0]}"
    for name in ("account", "container", "object", "proxy"):
        program = python.with_name(f"swift-{name}-server")
        server = start(
            [str(python), str(program), str(folder / "etc" / f"{name}-server.conf")],
            folder / f"{name}.log",
            (lambda: answers(f"{endpoint}/healthcheck")) if name == "proxy" else (lambda: True),
        )
        stopped.callback(server.stop)
    return S3Store("swift", endpoint, "roto:ci", "cisecret")


def _configure(folder: Path, ports: list[int]) -> None:
    etc = folder / "etc"
    (etc / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = ci\n[storage-policy:0]\nname = one\ndefault = yes\n", encoding="utf-8"
    )
    common = f"[DEFAULT]\nswift_dir = {etc}\nbind_ip = 127.0.0.1\nworkers = 0\nuser = {_user()}\n"
    for name, port in zip(("account", "container", "object"), ports[1:], strict=True):
        (etc / f"{name}-server.conf").write_text(
            f"{common}bind_port = {port}\ndevices = {folder / 'devs'}\nmount_check = false\n"
            f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n",
            encoding="utf-8",
        )
    parts = [f"[filter:{name}]\nuse = egg:swift#{name}\n{_SETTINGS.get(name, '')}" for name in _FILTERS.split()]
    (etc / "proxy-server.conf").write_text(
        f"{common}bind_port = {ports[0]}\n[pipeline:main]\npipeline = {_FILTERS} proxy-server\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\naccount_autocreate = true\n"
        + "".join(parts),
        encoding="utf-8",
    )


def _user() -> str:
    import getpass

    return getpass.getuser()
