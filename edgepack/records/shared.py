"""What several records share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from edgepack.errors import EdgepackError

Status = Literal[
    "ok", "failed", "unsupported", "unreachable", "throttled", "interrupted", "unchecked"
]


class Record:
    """The base of all records: a key that a record does not know is refused when it is read."""

    __pydantic_config__: ClassVar[dict[str, object]] = {
        "extra": "forbid",
        "json_schema_serialization_defaults_required": True,
    }


@dataclass(frozen=True, kw_only=True)
class ErrorRecord(Record):
    """Why a cell of a matrix failed; ``code`` is the exit code it stands for."""

    code: int
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: EdgepackError) -> ErrorRecord:
        """The record of an error."""
        return cls(code=error.code, message=error.message, hint=error.hint)


@dataclass(frozen=True, kw_only=True)
class TensorSpec(Record):
    """An input or output: real value = (stored - zero_point) * scale where quantised."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, kw_only=True)
class Signature(Record):
    """A named entry point of a model."""

    key: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, kw_only=True)
class Cost(Record):
    """Parameters, multiply-accumulates of one inference, and bytes read plus written."""

    params: int
    macs: int
    bytes_moved: int = 0
    weight_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Quality(Record):
    """One metric: of the Keras model, of the artefact on this host, and on the device.

    ``metric`` is higher-is-better for top1, top5 and auc, lower-is-better for mse and mae.
    ``data`` is the digest of the evaluation set.
    """

    metric: str
    reference: float | None = None
    host: float | None = None
    device: float | None = None
    samples: int = 0
    data: str = ""


@dataclass(frozen=True, kw_only=True)
class Fit(Record):
    """Whether a model fits a target; each reason is a sentence with its numbers."""

    ok: bool
    reasons: tuple[str, ...] = ()
