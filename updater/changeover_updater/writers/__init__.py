"""What other programs read of a generation: one module for each host that has a layout of its own."""

from changeover_updater.writers.cattery import write_cattery

__all__ = ["write_cattery"]
