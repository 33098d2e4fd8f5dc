"""Small nets of the kinds that mattes are made with, scripted or traced by the torch here, and traces by hand."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.release import Contract, State, TensorIn, TensorOut
from changeover_validators.runtimes.sandbox import available
from changeover_validators.vram.predictor import Target
from changeover_validators.vram.trace import Allocation, Call, Trace, parse_recording


def _nets() -> dict[str, Any]:
    """The kinds; torch is imported here, so that other folders' tests do not wait for it."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    class ConvNet(nn.Module):
        """Plain convolutions with normalisation."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
            self.norm, self.head = nn.BatchNorm2d(16), nn.Conv2d(16, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.norm(self.a(x)))
            return torch.sigmoid(self.head(torch.relu(self.b(y)) + y))

    class UNet(nn.Module):
        """Two levels down and up, with skips."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
            self.c, self.d = nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(48, 16, 3, padding=1)
            self.e, self.head = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.Conv2d(16, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            a = torch.relu(self.a(x))
            b = torch.relu(self.b(functional.max_pool2d(a, 2)))
            c = torch.relu(self.c(functional.max_pool2d(b, 2)))
            up = functional.interpolate(c, scale_factor=2.0, mode="nearest")
            d = self.e(torch.relu(self.d(torch.cat([up, b], 1))))
            return torch.sigmoid(self.head(torch.cat([d, a], 1)))

    class ViT(nn.Module):
        """Patches of 16 pixels and one block in which every patch looks at every other one."""

        def __init__(self) -> None:
            super().__init__()
            self.patch, self.qkv, self.out = nn.Conv2d(3, 32, 16, stride=16), nn.Linear(32, 96), nn.Linear(32, 256)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patch(x)
            rows, columns = tokens.size(2), tokens.size(3)
            q, k, v = self.qkv(tokens.flatten(2).transpose(1, 2)).chunk(3, -1)
            seen = torch.softmax(q @ k.transpose(1, 2) / 5.6, -1) @ v
            pixels = self.out(seen).transpose(1, 2).reshape(1, 256, rows, columns)
            return torch.sigmoid(functional.pixel_shuffle(pixels, 16))

    class ConvGru(nn.Module):
        """A recurrent cell; its state begins as [1, 1, 1, 1]."""

        def __init__(self) -> None:
            super().__init__()
            self.into, self.gates = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
            self.new, self.head = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 1, 1)

        def forward(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            y = torch.relu(self.into(x))
            state = s.expand(1, 8, y.size(2), y.size(3)) if s.size(3) == 1 else s
            update, reset = torch.sigmoid(self.gates(torch.cat([y, state], 1))).chunk(2, 1)
            new = torch.tanh(self.new(torch.cat([y, reset * state], 1)))
            state = (1 - update) * state + update * new
            return torch.sigmoid(self.head(state)), state

    return {"conv": ConvNet, "unet": UNet, "vit": ViT, "convgru": ConvGru}


NAMES = ("conv", "unet", "vit", "convgru")
Make = Callable[..., Trace]


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one TorchScript file of each kind; the plain net is traced, the others are scripted."""
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("scripts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for name, kind in _nets().items():
            torch.manual_seed(3)
            net = kind().eval()
            module = torch.jit.trace(net, torch.rand(1, 3, 64, 64)) if name == "conv" else torch.jit.script(net)
            module.save(str(folder / f"{name}.pt"))
    return folder


@pytest.fixture(scope="session")
def contracts() -> dict[str, Contract]:
    """How each of `scripts` is called."""
    plate = TensorIn(name="x", port="plate", channels=("R", "G", "B"))
    plain = Contract(
        evaluation="stateless",
        inputs=(plate,),
        output=TensorOut(name="y", port="matte"),
        colour="srgb",
        multiple=16,
    )
    states = {"evaluation": "sequence", "states": (State(input="s", output="t"),)}
    return {name: plain.model_copy(update=states if name == "convgru" else {}) for name in NAMES}


@pytest.fixture(scope="session")
def recorded(scripts: Path, contracts: dict[str, Contract]) -> Callable[..., tuple[Trace, ...]]:
    """Traces of one of `scripts` at some sizes, by the recorder in this very process."""
    from changeover_validators.vram.trace_child import recordings

    def record(name: str, *sizes: tuple[int, int]) -> tuple[Trace, ...]:
        contract = contracts[name]
        question = {
            "path": str(scripts / f"{name}.pt"),
            "device": "cpu",
            "threads": 1,
            "sizes": sizes,
            "sessions": 1,
            "calls": 4,
            "inputs": [{"channels": 3, "dtype": "float32"}],
            "states": [{"shape": s.shape, "dtype": s.dtype, "output": s.output} for s in contract.states],
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            lines = [json.dumps(line).encode() for line in recordings(question)]
        return tuple(parse_recording(line, where=name) for line in lines)

    return record


@pytest.fixture
def target() -> Target:
    """A card of which nothing was measured, with the torch of Nuke 15.1, recorded by the interpreter of the tests."""
    return Target("torch", "2.1.1", "cuda", gpu="NVIDIA RTX A4000", interpreter=sys.executable, context_bytes=300 << 20)


@pytest.fixture
def isolated() -> None:
    """Skip where no child can be isolated."""
    found = available()
    if found.name is None:
        pytest.skip(f"no isolation here: {found.reason}")


@pytest.fixture
def pretend(tmp_path: Path) -> Callable[[str], str]:
    """A program that answers as an interpreter does, and then runs the given shell words instead of a recorder."""

    def make(words: str) -> str:
        folder = tmp_path / "interpreter"
        folder.mkdir()
        path = folder / "python"
        path.write_text(f"""#!/bin/sh
case "$2" in -c) echo '{{"paths": [], "home": []}}'; exit;; esac
{words}
""")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def made() -> Make:
    """A trace by hand: sizes of weights, and the steps of its calls as (size, operator, role) or the handle to end."""

    def make(weights: list[int], *calls: list[Any], **changes: Any) -> Trace:
        fields: dict[str, Any] = {"torch": "2.13.0", "device": "cpu", "width": 256, "height": 256} | changes
        return Trace(weights=tuple(weights), calls=tuple(_call(steps) for steps in calls), **fields)

    return make


def _call(steps: list[Any]) -> Call:
    allocations: list[Allocation] = []
    order: list[int] = []
    for step in steps:
        if isinstance(step, int):
            order.append(-1 - step)
            continue
        size, operator, role = step
        order.append(len(allocations))
        allocations.append(Allocation(size, operator, scratch=role == "scratch", output=role == "output"))
    return Call(tuple(allocations), tuple(order))
