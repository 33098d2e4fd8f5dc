"""Machines that ship as canonical host facts, so that a studio can ask about a host which it does not have at hand.

Each is made up, and plausible: memory as NVML reports it for that product, a driver branch of its time, an onnxruntime
that this driver can serve (but for `old-driver-16gib`). They forge facts for checks 1 to 6 only.

| name | what it stands for |
| --- | --- |
| `rtx-a4000-16gib` | an artist's Ampere card, driver 570, CUDA 12 runtime, Nuke 15.1 and 16.0 |
| `quadro-p4000-8gib` | an old Pascal card: no bfloat16, 8 GiB, no CUDA 13; Nuke 13.2 and 15.1 |
| `rtx-2070-8gib` | a Turing card with 8 GiB: no bfloat16; Nuke 15.0 and 15.1 |
| `rtx-4090-24gib` | an Ada card with a CUDA 13 runtime |
| `rtx-6000-ada-48gib` | a large Ada workstation card |
| `rtx-5090-32gib` | a Blackwell card, newer than what Nuke 15.1 embeds |
| `h200-141gib` | a Hopper server without a display |
| `no-gpu` | a farm node that has no GPU, for certain |
| `two-unlike-gpus` | a large Ampere card for work and a small Pascal one for the display: the weaker counts |
| `windows-wddm-24gib` | a Windows workstation |
| `old-driver-16gib` | a CUDA 13 runtime on a driver that is too old for it |
| `a100-mig-80gib` | a card that is divided into instances, so its budget is unknown |
| `unknown-gpus` | a host whose interpreter lacks the library that asks for GPUs |
"""
