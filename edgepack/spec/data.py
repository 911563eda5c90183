"""A data description: where samples come from and how they are preprocessed; never tensors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import MinLen

from edgepack.spec.fields import FORBID, Count, Natural, Text


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """value = x * scale + offset, scalar or per channel, after ``size`` and channel order.

    ``size`` is (height, width) of images, (samples,) of sound.
    """

    __pydantic_config__ = FORBID
    scale: float | Annotated[tuple[float, ...], MinLen(1)] = 1.0
    offset: float | Annotated[tuple[float, ...], MinLen(1)] = 0.0
    size: Annotated[tuple[Count, ...], MinLen(1)] | None = None
    channels: Literal["rgb", "bgr", "gray"] | None = None
    dtype: Literal["float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"] = (
        "float32"
    )

    def __post_init__(self) -> None:
        scales = self.scale if isinstance(self.scale, tuple) else (self.scale,)
        if 0.0 in scales:
            raise ValueError("scale 0 makes every input the same")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One data description; the file's stem is ``id``; ``path`` is relative to ``folder``."""

    __pydantic_config__ = FORBID
    id: str
    source: Literal["npz", "npy", "image-folder", "csv", "wav-folder", "sklearn", "python"]
    folder: str = "."
    path: Text | None = None
    description: str = ""
    x: Text | Annotated[tuple[Text, ...], MinLen(1)] | None = None
    y: Text | None = None
    count: Count | None = None
    seed: Natural = 0
    indices: Annotated[tuple[Natural, ...], MinLen(1)] | None = None
    sha256: str | None = None
    metric: Text | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)

    def __post_init__(self) -> None:
        if self.count is not None and self.indices is not None:
            raise ValueError("'count' and 'indices' both choose samples: keep one")
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 should be 64 hexadecimal digits, found '{self.sha256}'")
