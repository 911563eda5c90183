"""The lowest operator versions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgepack.export.versions import lowest

FINE, COARSE = (SimpleNamespace(potScaleInt16=flag) for flag in (False, True))


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "more", "version"),
    [
        ("CONV_2D", ["int8", "int8", "int32"], ["int8"], {}, 3),
        ("CONV_2D", ["int8", "int4", "int32"], ["int8"], {}, 7),
        ("CONV_2D", ["float32", "int8", "float32"], ["float32"], {}, 2),
        ("CONV_2D", ["float32", "int8", "float32"], ["float32"], {"channels": True}, 5),
        ("CONV_2D", ["float32"] * 3, ["float32"], {}, 1),
        ("DEPTHWISE_CONV_2D", ["float32", "int8", "float32"], ["float32"], {"channels": True}, 6),
        ("FULLY_CONNECTED", ["int8", "int8", "int32"], ["int8"], {}, 4),
        ("FULLY_CONNECTED", ["int8", "int8"], ["int8"], {}, 6),
        ("FULLY_CONNECTED", ["float32"] * 3, ["float32"],
         {"options": SimpleNamespace(keepNumDims=True)}, 5),
        ("FULLY_CONNECTED", ["float32", "int8", "float32"], ["float32"], {"channels": True}, 12),
        ("FULLY_CONNECTED", ["int8", "int4", "int32"], ["int8"], {}, 10),
        ("ADD", ["int8", "int8"], ["int8"], {}, 2),
        ("ADD", ["int16", "int16"], ["int16"], {"options": FINE}, 3),
        ("SUB", ["int16", "int16"], ["int16"], {"options": FINE}, 5),
        ("ADD", ["int16", "int16"], ["int16"], {"options": COARSE}, 1),
        ("SOFTMAX", ["int16"], ["int16"], {}, 3),
        ("SPLIT", ["int32", "int8"], ["int8"], {}, 2),
        ("SPLIT", ["int32"], [], {}, 1),
        ("DEQUANTIZE", ["float16"], ["float32"], {}, 3),
        ("DEQUANTIZE", ["int8"], ["float32"], {"channels": True}, 5),
        ("DEQUANTIZE", ["float32"], ["float32"], {}, 1),
        ("QUANTIZE", ["float32"], ["int16"], {}, 2),
        ("QUANTIZE", ["float32"], ["int8"], {"channels": True}, 3),
        ("CUSTOM", [], [], {}, 1),
    ],
)  # fmt: skip
def test_lowest(op, inputs, outputs, more, version):
    assert lowest(op, inputs, outputs, **more) == version
