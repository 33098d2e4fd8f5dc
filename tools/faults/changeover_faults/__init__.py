"""Fault rigs: what stands on disk after kills, power cuts, full disks and many writers at once, with real tools."""
