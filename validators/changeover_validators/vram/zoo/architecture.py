"""One architecture of the zoo: its graph at a fixed size or with free axes, and how it is called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.records.release import Contract, State, TensorIn, TensorOut
from changeover_validators.vram.zoo.net import Net

__all__ = ["Architecture"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A small net in the shape of one that mattes are made with; its weights are noise.

    Attributes:
        name: Its word in tables.
        draw: Adds its operators to a net.
        held_out: Whether no one may tune a prediction on it.
        stride: Height and width must be multiples of it.
        states: For each recurrent state (input, output): its channels, and by how much its size is divided.
    """

    name: str
    draw: Callable[[Net], None]
    held_out: bool = False
    stride: int = 32
    states: Mapping[tuple[str, str], tuple[int, int]] | None = None

    def build(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        """Write the model to `path`: fixed at `width` by `height` pixels, or with both free where they are None."""
        net = Net(width, height)
        self.draw(net)
        path.write_bytes(net.model().SerializeToString())

    @property
    def contract(self) -> Contract:
        """How the form with free axes is called."""
        return self._contract(tuple(State(input=taken, output=given) for taken, given in self.states or {}))

    def contract_at(self, width: int, height: int) -> Contract:
        """How the form that is fixed at `width` by `height` is called: its states start at their full size."""
        states = [
            State(input=taken, output=given, shape=(1, channels, height // divisor, width // divisor))
            for (taken, given), (channels, divisor) in (self.states or {}).items()
        ]
        return self._contract(tuple(states))

    def feeds(self, width: int, height: int) -> Mapping[str, tuple[int, ...]]:
        """The shape of each input in the steady state, by name."""
        states = self.contract_at(width, height).states
        return {"image": (1, 3, height, width), **{state.input: state.shape for state in states}}

    def _contract(self, states: tuple[State, ...]) -> Contract:
        return Contract(
            evaluation="sequence" if states else "stateless",
            inputs=(TensorIn(name="image", port="plate", channels=("red", "green", "blue")),),
            output=TensorOut(name="matte", port="matte"),
            states=states,
            colour="srgb",
            multiple=self.stride,
        )
