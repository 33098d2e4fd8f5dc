"""Ways to a repository: a folder, HTTP(S), S3, memory; one small port, and `open_transport` that picks by address."""

from changeover_registry.transport.interface import NoRangesError, NotThereError, Transport, open_transport

__all__ = ["NoRangesError", "NotThereError", "Transport", "open_transport"]
