"""How a file becomes a model's input: what is kept of a data description beside a pack."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from edgepack.files import encoded, to_json, write_text
from edgepack.model.data import Data
from edgepack.model.sources import located
from edgepack.model.sources.files import classes, listed
from edgepack.model.sources.wav_folder import SUFFIXES, decode
from edgepack.spec.data import Preprocess
from edgepack.spec.fields import FORBID, Count, Natural, Text
from edgepack.spec.toml import parse, read_json

NAME = "inputs.json"


@dataclass(frozen=True, kw_only=True)
class Taking:
    """What a sample is before preprocessing, and what the preprocessing is.

    ``row_dtype`` and ``row_shape`` are of one decoded sample of the first input; ``labels`` the
    names of the classes where the data has them; ``rate_hz`` that of sound.
    """

    __pydantic_config__ = FORBID
    data: Text
    source: Text
    preprocess: Preprocess
    row_dtype: Text
    row_shape: tuple[Natural, ...] = ()
    labels: tuple[str, ...] = ()
    rate_hz: Count | None = None


def of_data(data: Data) -> Taking:
    """How the samples of a data set become inputs. Reads one of them."""
    spec, first = data.spec, next(data.select([0]).raw(1)).x[0]
    labels: tuple[str, ...] = ()
    rate = None
    if spec.source in ("image-folder", "wav-folder"):
        folder = located(spec, folder=True)
        labels = classes(folder)
        if spec.source == "wav-folder":
            rate = decode(listed(folder, SUFFIXES)[0][0])[1]
    return Taking(
        data=spec.id,
        source=spec.source,
        preprocess=spec.preprocess,
        row_dtype=str(first.dtype),
        row_shape=tuple(int(size) for size in first.shape[1:]),
        labels=labels,
        rate_hz=rate,
    )


def write(folder: Path, taking: Taking) -> None:
    """Keep it beside a pack; what is the same already is not written again."""
    path, text = folder / NAME, to_json(asdict(taking))
    if not path.is_file() or path.read_bytes() != encoded(text):
        write_text(path, text)


def read(folder: Path) -> Taking | None:
    """What was kept beside a pack, where anything was. Raises SpecError where it is damaged."""
    path = folder / NAME
    return parse(Taking, read_json(path), str(path)) if path.is_file() else None
