"""Ways to a repository: a folder, HTTP(S), memory; one small port, and `open_transport` that picks by address."""

from changeover_registry.transport.interface import NotThereError, Transport, open_transport

__all__ = ["NotThereError", "Transport", "open_transport"]
