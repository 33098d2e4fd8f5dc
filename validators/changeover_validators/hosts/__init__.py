"""Machines that ship as canonical host facts, so that a studio can ask about a host which it does not have at hand.

Each is made up, and true in its parts. Memory is what NVML reports for that product; ``ext.sources`` of each file says
how that is known, and which reserve was estimated. The driver is a published one; the limits, toolkit, cuDNN and
architectures of its onnxruntime were read from a wheel of that minor version (for Linux and for Windows apart). They
forge facts for checks 1 to 6 only: nothing is measured on them.

| name | what it stands for |
| --- | --- |
| `gtx-980-4gib` | a Maxwell GeForce with 4 GiB; the newest onnxruntime that carries its architecture |
| `quadro-m6000-24gib` | a Maxwell Quadro on R580, the last driver branch that drives it |
| `quadro-p4000-8gib` | an old Pascal card: no bfloat16, 8 GiB, no CUDA 13; Nuke 13.2 and 15.1 |
| `quadro-p6000-24gib` | R580 on a Pascal card: the driver would run CUDA 13, the card would not |
| `gtx-1080-ti-11gib` | a Pascal GeForce with a display |
| `tesla-v100-32gib` | a Volta farm node without a display |
| `rtx-2070-8gib` | a Turing card with 8 GiB: no bfloat16; Nuke 15.0 and 15.1 |
| `windows-tcc-16gib` | a Turing compute card under Windows, driven as TCC |
| `rtx-3090-24gib` | an Ampere GeForce on R520 and CUDA 11: too old a driver for any CUDA 12 |
| `rtx-a4000-16gib` | an artist's Ampere card, driver 570, CUDA 12 runtime, Nuke 15.1 and 16.0 |
| `old-driver-16gib` | a CUDA 13 runtime on a driver that is too old for it |
| `driver-470-24gib` | a driver that does not tell the reserve apart, so the budget is unknown |
| `rtx-a6000-ecc-48gib` | a large Ampere compute card with error correction on, which takes 3 GiB of it |
| `windows-wddm-24gib` | a Windows workstation with its display on the card |
| `windows-wddm-48gib` | a Windows workstation whose card has no display, and WDDM all the same |
| `a100-mig-80gib` | a card that is divided into four instances |
| `rtx-4090-24gib` | an Ada card with a CUDA 13 runtime |
| `rtx-6000-ada-48gib` | a large Ada workstation card |
| `l4-24gib` | an Ada compute card in a farm |
| `h100-80gib` | a Hopper server |
| `h200-141gib` | a Hopper server without a display |
| `rtx-5090-32gib` | a Blackwell card, newer than what Nuke 15.1 embeds |
| `rtx-5090-compiled-32gib` | the same card under a runtime with no machine code for it, which the driver compiles |
| `rtx-pro-6000-96gib` | a Blackwell server card, with 2 GiB reserved |
| `gb10-unified` | a card that shares the system's memory: NVML tells neither total nor free |
| `two-unlike-gpus` | a large Ampere card for work and a small Pascal one for the display: the weaker counts |
| `two-unlike-bound` | the same machine, where host.toml says that Nuke is set to the Ampere card |
| `no-gpu` | a farm node that has no GPU, for certain |
| `no-avx2` | a farm node without a GPU, on a CPU without AVX2 |
| `macos-no-gpu` | a Mac: no GPU that CUDA could use, another CPU family |
| `old-glibc` | CentOS 7: glibc 2.17, and an onnxruntime that is old enough to install there |
| `unknown-gpus` | a host whose interpreter lacks the library that asks for GPUs |
"""
