"""The estimate of TFLM's memory against what the wheel itself says that it allocates."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

from edgepack.graph.overhead import runtime_ram_bytes
from edgepack.graph.parse import read
from edgepack.graph.plan import plan
from edgepack.runtimes.tables import load
from tests.needs import needs

pytestmark = pytest.mark.e2e

# The wheel writes its accounts to the standard error of the process, and to nothing else.
ACCOUNTS = """
import os, sys
from tflite_micro.python.tflite_micro import runtime
recording = runtime.InterpreterConfig.kAllocationRecording
for path in sys.argv[1:]:
    os.write(2, b"MODEL")
    runtime.Interpreter.from_file(
        path, arena_size=4_000_000, intrepreter_config=recording
    ).print_allocations()
"""
PLANNED = [
    "models/mlperf_kws_int8",
    "models/mlperf_ic_int8",
    "models/mlperf_ic_float",
    "models/mlperf_ad_int8",
    "models/mlperf_sww_int8",
    "tflite_zoo/tflite-micro__hello_world_float",
    "tflite_zoo/tflite-micro__micro_speech_quantized",
    "tflite_zoo/ai-edge-quantizer__conv_fc_mnist_srq_a8w8",
    "tflite_zoo/tflite-micro__conv9",
]


@pytest.fixture(scope="module")
def accounts(reference_data) -> dict[str, dict[str, int]]:
    """Bytes of the whole arena, its head (activations) and tail, of every planned model."""
    there = importlib.util.find_spec("tflite_micro") is not None
    needs(there, "pip install --pre 'edgepack[mcu]'")
    paths = [str(reference_data / f"{name}.tflite") for name in PLANNED]
    shown = subprocess.run(
        [sys.executable, "-c", ACCOUNTS, *paths],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = [
        {part: int(size) for part, size in re.findall(r"allocation (total|head) (\d+)", account)}
        for account in shown.stderr.split("MODEL")[1:]
    ]
    return dict(zip(PLANNED, found, strict=True))


@pytest.mark.parametrize("name", PLANNED)
def test_the_plan_is_tflms_own_and_the_rest_is_near(name, accounts, reference_data):
    graph, tflm = read(reference_data / f"{name}.tflite"), load("tflm")
    total, head = accounts[name]["total"], accounts[name]["head"]
    arena, beside = plan(graph).arena_bytes, runtime_ram_bytes(graph, tflm)
    assert arena == head
    # The interpreter itself, about 1 KB, is in the table's allowance.
    assert total - 1500 <= arena + beside - tflm.ram_bytes <= 1.15 * total
    assert arena + beside >= total
