"""Running a model where it can do no harm: an isolated child, a framed pipe, a contract applied to the letter.

The parent side (`interface`, `sandbox`, `process`, `endings`) needs the base install alone and imports numpy only
when it infers. The child side (`child`, `contract`, `smoke`, `onnx`, `torchscript`) needs the `run` or `torch` extra.
Left out: what a score means (`golden`), and what memory a model will need (`vram`).
"""
