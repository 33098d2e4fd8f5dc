"""The ground floor: records, value types, errors, inspection, signing, repositories, the MLflow adapter."""
