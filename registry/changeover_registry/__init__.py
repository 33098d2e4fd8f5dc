"""The ground floor: records, value types, errors, inspection, signing, repositories, the MLflow adapter."""

from changeover_registry._lean_imports import hide_boto3_from_signers

hide_boto3_from_signers()
