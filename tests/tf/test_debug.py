"""debug: the layer that was made bad is found, its error explained, and rescued."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgepack as ep
from edgepack.errors import ModelError, SpecError
from edgepack.export import dissect, export
from edgepack.export.compare import judged, run
from edgepack.export.convert import to_float, trace
from edgepack.export.debug import debug
from edgepack.export.failure import layer_names
from edgepack.export.plan import assigned
from edgepack.graph.facts import tensor_spec
from edgepack.graph.parse import parse
from edgepack.graph.values import quantise
from edgepack.model.data import Data, open_data
from edgepack.model.load import Model, load
from edgepack.model.predict import predict
from edgepack.runtimes import child, tables
from edgepack.spec.data import Dataset
from edgepack.spec.library import find
from edgepack.spec.recipe import Recipe, Selection
from tests.tf.debug_models import Ruined, make_ruined
from tests.tf.export_models import as_model
from tests.tiny import write_set

pytestmark = pytest.mark.tf
HERE = "litert-2.3"


@pytest.fixture(scope="module")
def ruined(tmp_path_factory) -> Ruined:
    return make_ruined(tmp_path_factory.mktemp("ruined"))


@pytest.fixture(scope="module")
def packed(ruined, tmp_path_factory) -> ep.Pack:
    """The ruined model in int8."""
    return ep.pack(
        ruined.model,
        target="generic-linux-x86_64",
        recipe="int8",
        calibration=str(ruined.calibration),
        out=tmp_path_factory.mktemp("out"),
    )


@pytest.fixture(scope="module")
def residual() -> Model:
    """Branches, fused activations, and Keras's own numbered names."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    keras.backend.clear_session()
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    return as_model(keras.Model(image, layers.Dense(4, activation="softmax")(x)))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Data:
    x = np.random.default_rng(0).random((24, 8, 8, 3), np.float32)
    folder = tmp_path_factory.mktemp("images")
    return open_data(find(Dataset, str(write_set(folder, "images", x=x))))


def exported(model: Model, data: Data, scheme: str, **more) -> bytes:
    recipe = Recipe(id=scheme, scheme=scheme, **more)
    return export(model, recipe, tables.load(HERE), data).content


def test_the_bad_layer_is_ranked_first_and_explained(ruined, packed):
    found = ep.debug(ruined.model, packed.artefact.path, calibration=str(ruined.calibration))
    worst = next(row for row in found.layers if row.layer == "quiet")
    assert found.ranked[0] == "quiet"
    assert worst.local_sqnr_db < 5
    assert worst.from_input > 0.95
    assert worst.input_channel_ratio > 100
    assert worst.reads == ("loud",)
    assert "equalize between loud and quiet" in worst.suggestion.what
    others = [row for row in found.layers if row.layer != "quiet"]
    assert min(row.local_sqnr_db for row in others) > 30
    assert not any(row.suggestion for row in others)
    assert "quiet" in found.suggestions[0].what
    assert found.output.sqnr_db < 10
    assert found.sha256 == packed.artefact.sha256
    assert (Path(packed.artefact.path).parent / "debug.json").is_file()


def test_a_float_file_has_no_error(residual, images):
    found = debug(residual, to_float(residual), "float", images, runtime=HERE)
    assert found.output.sqnr_db is None
    assert found.output.cosine == pytest.approx(1)
    assert found.ranked == found.suggestions == found.unmatched == ()
    assert found.samples == 24


@pytest.mark.parametrize("scheme", ["int8", "int16x8", "dynamic", "float16", "int4"])
def test_every_layer_of_every_scheme_is_matched_and_run_alone(residual, images, scheme):
    found = debug(residual, exported(residual, images, scheme), scheme, images, runtime=HERE)
    assert found.unmatched == ()
    assert found.matched == 6
    assert [row.layer for row in found.layers] == [
        "conv2d", "conv2d_1", "add", "global_average_pooling2d", "dense", "dense",
    ]  # fmt: skip
    first = found.layers[0]
    assert first.local_sqnr_db == pytest.approx(first.sqnr_db)  # nothing lies before it
    for row in found.layers:
        if row.from_input is not None:
            assert row.from_input + row.from_weights + row.from_output == pytest.approx(1)
        assert (row.max_lsb is None) == (row.dtype == "float32")
    assert first.weight_sqnr_db > 15


def test_fewer_bits_are_the_weights_fault(residual, images):
    found = debug(residual, exported(residual, images, "int4"), "int4", images, runtime=HERE)
    kernels = [row for row in found.layers if row.weights == "int4"]
    kernel = min(kernels, key=lambda row: row.local_sqnr_db)
    assert kernel.from_weights > 0.8
    assert "8 bits" in kernel.suggestion.what


def test_the_output_error_is_that_of_the_whole_file(residual, images):
    content = exported(residual, images, "int8")
    found = debug(residual, content, "int8", images, runtime=HERE)
    inputs = list(next(images.batches(64)).x)
    whole = judged(run(content, inputs, residual, HERE), predict(residual, inputs), HERE, 0.0)
    assert found.output.sqnr_db == pytest.approx(whole.sqnr_db, abs=0.01)
    assert found.output.max_abs == pytest.approx(whole.max_abs, abs=1e-5)


@pytest.mark.parametrize("scheme", ["int8", "int16x8", "float16"])
def test_operators_alone_answer_as_in_the_whole_file(residual, images, scheme, tmp_path):
    """Fed with what the whole file computes, each gives back what it computes."""
    content = exported(residual, images, scheme)
    main = parse(content, scheme).main
    operators = [o for o in main.operators if o.outputs[0] not in dissect.sources(main)]
    real = next(images.batches(4)).x[0][:, None]
    inputs = [quantise(real, tensor_spec(main.tensors[main.inputs[0]]))]
    made = [operator.outputs[0] for operator in operators]
    path = tmp_path / "model.tflite"
    path.write_bytes(dissect.exposed(content, made))
    whole = child.infer(path, inputs, HERE)
    known = {main.inputs[0]: inputs[0], **dict(zip(made, whole, strict=True))}
    path.write_bytes(dissect.apart(content, [operator.index for operator in operators]))
    fed = [known[slot.tensor] for slot in dissect.slots(main, operators)]
    for alone, there in zip(child.infer(path, fed, HERE), whole, strict=True):
        np.testing.assert_array_equal(alone, there)


def test_a_file_that_the_bare_converter_made_is_matched(residual, images):
    import tensorflow as tf

    traced = trace(residual)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.function], traced.holder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [x[None]] for x in next(images.batches(24)).x[0]
    )  # fmt: skip
    found = debug(residual, converter.convert(), "bare", images, runtime=HERE)
    assert found.matched == 6
    assert found.layers[0].local_sqnr_db > 25


def test_a_selection_takes_one_layer_though_tracing_numbers_scopes(residual):
    """Tracing calls the scope of ``conv2d`` ``conv2d_1``, as another layer is called."""
    recipe = Recipe(
        id="mixed", scheme="mixed", mixed=(Selection(layers="conv2d_1", scheme="float32"),)
    )
    main = parse(to_float(residual), "residual").main
    plan = assigned(main, recipe, layer_names(residual))
    assert [part.scheme for part in plan][:3] == ["int8", "float32", "int8"]


def test_other_weights_are_told(residual, images):
    import keras

    other = keras.models.clone_model(residual.keras)
    found = debug(
        residual, exported(as_model(other), images, "int8"), "other", images, runtime=HERE
    )
    assert "its weights are not the model's" in found.notes[0]
    assert found.suggestions == ()
    assert not any(row.suggestion for row in found.layers)


def test_a_rescue_keeps_that_layer_and_is_packed_again_from_its_recipe(ruined, packed, tmp_path):
    found = ep.debug(
        ruined.model,
        packed.artefact.path,
        calibration=str(ruined.calibration),
        evaluation=str(ruined.evaluation),
        limit="accuracy=3pt",
        out=tmp_path,
    ).rescued
    assert found.met
    assert found.before < found.reference - 0.03 <= found.after
    assert set(found.layers) == {"loud", "quiet"}  # wide only together: the tensor is between
    assert (found.scheme, found.otherwise) == ("int16x8", "int8")
    assert found.samples == 64
    again = ep.pack(
        ruined.model,
        target="generic-linux-x86_64",
        recipe=found.recipe,
        calibration=str(ruined.calibration),
        out=tmp_path / "again",
    )
    assert Path(again.artefact.path).read_bytes() == Path(found.file).read_bytes()
    assert again.artefact.size_bytes == found.size_after_bytes
    rescued = ep.debug(ruined.model, found.file, calibration=str(ruined.calibration))
    assert rescued.output.sqnr_db > 30


def test_a_limit_that_holds_already_keeps_nothing(ruined, packed):
    found = ep.debug(
        ruined.model,
        packed.artefact.path,
        calibration=str(ruined.calibration),
        evaluation=str(ruined.evaluation),
        limit="accuracy=0.0",
    ).rescued
    assert found.met
    assert found.layers == found.tried == ()
    assert found.after == found.before


def test_what_cannot_be_judged_is_refused_before_work(ruined, packed):
    def ask(**more):
        path = packed.artefact.path
        return ep.debug(ruined.model, path, calibration=str(ruined.calibration), **more)

    with pytest.raises(SpecError, match="evaluation"):
        ask(limit="accuracy=1pt")
    with pytest.raises(SpecError, match="judged by top1"):
        ask(limit="mse=0.1", evaluation=str(ruined.evaluation))


def test_a_file_of_another_model_is_refused(residual, images, ruined, packed):
    content = Path(packed.artefact.path).read_bytes()
    with pytest.raises(ModelError, match="its inputs are 8×8×1, the model's 8×8×3"):
        debug(residual, content, "packed", images, runtime=HERE)
    model = load(ruined.model)
    with pytest.raises(ModelError, match="was not made from"):
        debug(model, exported(residual, images, "int8"), "other", images, runtime=HERE)
