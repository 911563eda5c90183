"""Run as a process of its own: Keras 2 reads a SavedModel and writes an HDF5 file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from edgepack.errors import ModelError
from edgepack.model.archive import parse
from edgepack.model.trust import screen


def configurations(folder: Path) -> Iterator[str]:
    """The JSON that Keras 2 would rebuild layers from, old and new places of it."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tf_keras.protobuf import saved_metadata_pb2

    metadata = folder / "keras_metadata.pb"
    if metadata.is_file():
        read = saved_metadata_pb2.SavedMetadata()
        read.ParseFromString(metadata.read_bytes())
        for node in read.nodes:
            yield node.metadata
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        for item in graph.object_graph_def.nodes:
            if item.HasField("user_object") and item.user_object.metadata:
                yield item.user_object.metadata


def convert(source: Path, made: Path, allow_lambda: bool) -> None:
    """Write the layers of the SavedModel ``source`` to ``made``. Raises ModelError."""
    found = False
    for text in configurations(source):
        if text.lstrip().startswith("{"):
            found = True
            screen(parse(text, source), source, allow_lambda=allow_lambda)
    if not found:
        raise ModelError(f"{source}: was not saved from Keras layers")
    import tf_keras

    model = tf_keras.models.load_model(str(source), compile=False)
    model.save(str(made), save_format="h5", include_optimizer=False)


def main(arguments: list[str]) -> int:
    """Convert; one line on stderr and 1 where that fails."""
    source, made = Path(arguments[0]), Path(arguments[1])
    try:
        convert(source, made, "--allow-lambda" in arguments[2:])
    except ModelError as error:
        sys.stderr.write(f"\n{error.message}\n")
        return 1
    except Exception as error:
        line = next((part for part in str(error).splitlines() if part.strip()), "")
        sys.stderr.write(f"\n{type(error).__name__}: {line}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
