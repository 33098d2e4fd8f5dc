"""Nuke runs this at its start, in every mode: it fixes the generation of models for this session."""

try:
    import changeover_nuke

    changeover_nuke.start()
except Exception as error:  # noqa: BLE001 - whatever is wrong with this folder, Nuke must start
    import sys

    sys.stderr.write(f"Changeover did not start: {error}\n")
