"""Keras files, screened and then read: ``.keras``, and ``.h5`` of Keras 3 and Keras 2."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepack.errors import ModelError
from edgepack.model import archive, keras2, operations
from edgepack.model.h5_probe import probe
from edgepack.model.specs import Shapes, check_names, fixed
from edgepack.model.trust import screen
from edgepack.model.usercode import run_file
from edgepack.records import TensorSpec

EXPORT = "export it as a SavedModel (model.export(folder)) and give that folder"


def read(path: Path, kind: str, allow_code: Path | None, allow_lambda: bool, seed: int) -> Any:
    """The Keras 3 model in the file, uncompiled. Raises ModelError as ``load.load`` says."""
    config, old = _config(path, kind)
    screen(config, path, allow_lambda=allow_lambda, code=allow_code is not None)
    made = keras2.rewrite(config, path) if old else config
    with quiet():
        import keras

        keras.utils.set_random_seed(seed)
        custom = custom_objects(allow_code)
        try:
            with tempfile.TemporaryDirectory() as folder:
                file = _suffixed(path, kind, Path(folder))
                if old and kind == "keras":
                    file = Path(folder) / "rewritten.keras"
                    archive.with_config(path, made, file)
                elif old:
                    return _from_keras2(path, file, made, custom, allow_lambda)
                if kind == "h5":
                    file = operations.mended(file, config, Path(folder))
                return keras.saving.load_model(
                    file, custom_objects=custom, compile=False, safe_mode=not allow_lambda
                )
        except ModelError:
            raise
        except Exception as exc:
            raise _explained(exc, path, allow_code is not None) from exc


def _config(path: Path, kind: str) -> tuple[dict[str, Any], bool]:
    """(the model's configuration, whether Keras 2 wrote it)."""
    probe(path, kind)
    if kind == "keras":
        config, version = archive.keras_config(path)
        return config, version is not None and keras2.written_by_keras2(version)
    with archive.opened_h5(path) as file:
        text = file.attrs.get("model_config")
        if text is None:
            weights = "layer_names" in file.attrs or "layers" in file or "model_weights" in file
            what = "holds weights without a model" if weights else "holds no Keras model"
            raise ModelError(f"{path}: {what}", "save the whole model: model.save(file)")
        return archive.parse(text, path), keras2.written_by_keras2(file.attrs.get("keras_version"))


def _suffixed(path: Path, kind: str, folder: Path) -> Path:
    """The file under a name with the suffix of its content, by which Keras goes."""
    file = folder / f"model.{kind}"
    file.symlink_to(path.resolve())
    return file


def _from_keras2(
    path: Path, file: Path, config: dict[str, Any], custom: dict[str, Any], allow_lambda: bool
) -> Any:
    import keras

    model = keras.saving.deserialize_keras_object(
        config, custom_objects=custom, safe_mode=not allow_lambda
    )
    if not model.built:
        raise ModelError(f"{path}: {_unbuilt(model)}", "build the model, then save it again")
    model.load_weights(str(file))
    return model


def custom_objects(allow_code: Path | None) -> dict[str, Any]:
    """The custom objects that a trusted file defines or registers."""
    if allow_code is None:
        return {}
    module = run_file(allow_code, ModelError)
    named = getattr(module, "custom_objects", {})
    if not isinstance(named, dict):
        raise ModelError(f"{allow_code}: custom_objects is not a dict", "map names to classes")
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    } | named


def specs(
    model: Any, shapes: Shapes, path: Path
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) of a Keras model with a batch of 1, in the model's own order."""
    import keras

    tensors = _input_tensors(model, shapes, path)
    check_names(shapes, [name for name, _, _ in tensors], path)
    inputs = tuple(fixed(name, shape, dtype, shapes, path) for name, shape, dtype in tensors)
    with quiet():
        given = [keras.KerasTensor(spec.shape, dtype=spec.dtype) for spec in inputs]
        try:
            made = model.compute_output_spec(packed(model, given))
        except Exception as exc:
            raise _explained(exc, path, True) from exc
    names = _output_names(model, made)
    outputs = tuple(
        fixed(name, tensor.shape, _dtype(tensor), {}, path)
        for name, tensor in zip(names, keras.tree.flatten(made), strict=True)
    )
    return inputs, outputs


def packed(model: Any, values: list[Any]) -> Any:
    """A flat list of inputs in the structure that the model is called with."""
    import keras

    try:
        structure = model.input
    except (AttributeError, ValueError):
        return values[0] if len(values) == 1 else values
    return keras.tree.pack_sequence_as(structure, values)


def _input_tensors(
    model: Any, shapes: Shapes, path: Path
) -> list[tuple[str, tuple[int | None, ...], str]]:
    """(name, shape, dtype) of each input; a subclassed model knows only what it was built for."""
    try:
        found = list(model.inputs)
    except (AttributeError, TypeError, ValueError):
        found = []
    if found:
        return [(tensor.name, tuple(tensor.shape), _dtype(tensor)) for tensor in found]
    built = model.get_build_config() or {}
    shape = built.get("input_shape") or next(iter((built.get("shapes_dict") or {}).values()), None)
    if isinstance(shape, tuple | list) and shape and not isinstance(shape[0], tuple | list):
        return [("input", tuple(shape), model.input_dtype or "float32")]
    if shapes:
        return [(name, (None, *given[1:]), "float32") for name, given in shapes.items()]
    raise ModelError(f"{path}: {_unbuilt(model)}", "build the model, then save it; or give --shape")


def _unbuilt(model: Any) -> str:
    kind = type(model).__name__
    what = "an Input layer" if kind == "Sequential" else "the shape of its input"
    return f"this {kind} model was never built: {what} is missing"


def _output_names(model: Any, made: Any) -> list[str]:
    if isinstance(made, dict):
        return sorted(made)
    names = [str(name) for name in getattr(model, "output_names", None) or []]
    if type(model).__name__ == "Sequential":
        names = [model.layers[-1].name]
    count = len(made) if isinstance(made, list | tuple) else 1
    if len(names) == count and len(set(names)) == count:
        return names
    return [f"output_{index}" for index in range(count)] if count > 1 else ["output"]


def _dtype(tensor: Any) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype))


def _explained(exc: Exception, path: Path, code: bool) -> ModelError:
    """Keras's error in one line, with what to do about the common ones."""
    text = str(exc).rpartition("Exception encountered:")[2]
    line = next((part for part in text.splitlines() if part.strip()), type(exc).__name__)
    line = line.partition(" Full object config:")[0].strip()[:300]
    if (
        "custom" in text
        or "KerasSaveable" in text
        or "Could not locate" in text
        or "Unknown layer" in text
    ):
        hint = "its file must define that name" if code else "pass --custom-objects FILE.py"
        return ModelError(f"{path}: needs a custom object: {line}", hint)
    if "Lambda" in text or "lambda" in text:
        return ModelError(f"{path}: {line}", "pass --allow-lambda if you trust the file")
    return ModelError(f"{path}: Keras cannot read it: {line}", EXPORT)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Keras's prints off stdout and its advice to the model's author off the screen."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
