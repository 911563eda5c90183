"""What goes into a model and comes out of it, with a batch of one and every size known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgepack.errors import ModelError
from edgepack.records import TensorSpec

Shape = Sequence[int | None]
Shapes = Mapping[str, tuple[int, ...]]


def fixed(name: str, shape: Shape | None, dtype: str, shapes: Shapes, where: Path) -> TensorSpec:
    """One tensor with its unknown sizes filled from ``shapes``.

    ``shapes`` gives a shape by the tensor's name, with the batch or without it. Raises
    ModelError where a size remains unknown, or where the given shape contradicts the model's.
    """
    if name in shapes:
        return TensorSpec(name=name, shape=_given(name, shape, shapes[name], where), dtype=dtype)
    if shape is None or any(size is None for size in tuple(shape)[1:]):
        shown = "any shape" if shape is None else _text(shape)
        raise ModelError(
            f"{where}: '{name}' has no fixed shape ({shown})",
            f"give one, such as --shape {name}=1,96,96,3, or save the model with a fixed input",
        )
    sizes = tuple(int(size or 1) for size in shape)
    return TensorSpec(name=name, shape=(1, *sizes[1:]) if sizes else (), dtype=dtype)


def _given(name: str, shape: Shape | None, given: tuple[int, ...], where: Path) -> tuple[int, ...]:
    full = given
    if shape is not None and len(given) == len(shape) - 1:
        full = (1, *given)
    agrees = shape is None or (
        len(full) == len(shape)
        and all(old is None or old == new for old, new in zip(shape[1:], full[1:], strict=True))
    )
    if not agrees or not full or full[0] != 1 or min(full) < 1:
        raise ModelError(
            f"{where}: '{name}' is {_text(shape or ())}, so it cannot be {_text(given)}",
            "give a batch of 1 and sizes that agree with the model",
        )
    return full


def check_names(shapes: Shapes, names: Sequence[str], where: Path) -> None:
    """Raises ModelError where ``shapes`` speaks of an input that the model does not have."""
    for name in shapes:
        if name not in names:
            raise ModelError(f"{where}: has no input '{name}'", "its inputs: " + ", ".join(names))


def _text(shape: Shape) -> str:
    return "×".join("?" if size is None else str(size) for size in shape)
