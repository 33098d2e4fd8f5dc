"""Real servers for the tests: MLflow, PostgreSQL, OpenStack Swift's S3, moto's S3, and a proxy that cuts connections.

Each is started at its first use, listens on loopback alone and is ended with the tests, however those end (`keeper`).
What is not installed is skipped with a line that says what to install.
"""

from changeover_servers.mlflow import KINDS, MlflowServer
from changeover_servers.postgres import Postgres
from changeover_servers.proxy import Cut, CuttingProxy
from changeover_servers.s3 import S3Store

__all__ = ["KINDS", "Cut", "CuttingProxy", "MlflowServer", "Postgres", "S3Store"]
