import subprocess
import sys

import pytest

CODE = """
import sys
{first}
import changeover_registry.client
print(sorted(name for name in ("boto3", "botocore") if sys.modules.get(name)))
import boto3
print(boto3.session.Session.__name__)
"""


@pytest.mark.parametrize(("first", "loaded"), [("", "[]"), ("import boto3", "['boto3', 'botocore']")])
def test_the_client_brings_no_boto3_and_keeps_it_from_nobody(first: str, loaded: str) -> None:
    pytest.importorskip("boto3")
    done = subprocess.run([sys.executable, "-c", CODE.format(first=first)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [loaded, "Session"], done.stderr
