"""Checks: pure functions of records that answer with findings; no disk, network, GPU or clock."""
