"""Records as a real run of a small CNN writes them: four recipes, two targets, one failure."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import replace

from edgepack.records import (
    Agreement,
    Artefact,
    Check,
    Cost,
    DeviceRecord,
    ErrorRecord,
    Fit,
    Latency,
    MeasuredMemory,
    Measurement,
    Operator,
    Pack,
    PackMemory,
    Quality,
    Report,
    RuntimeRecord,
    Skipped,
    StepRecord,
)
from edgepack.reporting.collect import build
from edgepack.spec.target import Limits, Target

VERSIONS = {
    "edgepack": "0.1.0",
    "tensorflow": "2.21.0",
    "keras": "3.15.1",
    "ai-edge-litert": "2.3.0",
}
LAPTOP = Target(
    id="generic-linux-x86_64",
    name="Linux PC, x86-64",
    kind="linux",
    arch="x86_64",
    runtimes=("litert-2.3",),
    limits=Limits(max_latency_ms=0.2, max_flash_kib=60, min_accuracy=0.95, max_accuracy_drop=0.01),
)
BOARD = Target(
    id="rpi4-64",
    name="Raspberry Pi 4, 64-bit",
    kind="linux",
    arch="aarch64",
    runtimes=("litert-2.3",),
    limits=Limits(max_latency_ms=0.6, max_ram_kib=2048),
)
# recipe: size, gzip, accuracy on the host, median µs here, model's share of memory, SQNR
RECIPES = {
    "float32": (103_644, 94_212, 0.9806, 61.4, 1_130_496, None),
    "float16": (54_120, 47_900, 0.9806, 63.9, 1_245_184, 71.3),
    "dynamic": (31_872, 24_610, 0.9778, 48.2, 901_120, 36.8),
    "int8": (31_344, 24_105, 0.9778, 22.7, 704_512, 33.9),
}
LAYERS = (
    ("CONV_2D", "conv2d/Relu", (1, 8, 8, 16), 160, 9_216),
    ("CONV_2D", "conv2d_1/Relu", (1, 8, 8, 32), 4_640, 294_912),
    ("MAX_POOL_2D", "max_pooling2d/MaxPool", (1, 4, 4, 32), 0, 0),
    ("CONV_2D", "conv2d_2/Relu", (1, 4, 4, 64), 18_496, 294_912),
    ("MEAN", "global_average_pooling2d/Mean", (1, 64), 0, 0),
    ("FULLY_CONNECTED", "dense/BiasAdd", (1, 10), 650, 640),
    ("SOFTMAX", "softmax", (1, 10), 0, 0),
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def pack(recipe: str, target: str = LAPTOP.id, **changes: object) -> Pack:
    size, gzip, accuracy, _, _, sqnr = RECIPES[recipe]
    made = Pack(
        model="digits-cnn",
        target=target,
        recipe=recipe,
        seed=0,
        versions=VERSIONS,
        status="ok",
        key=sha(recipe + target)[:16],
        artefact=Artefact(
            path=f"{target}/{recipe}/model.tflite",
            sha256=sha(recipe),
            size_bytes=size,
            gzip_bytes=gzip,
        ),
        cost=Cost(params=23_946, macs=599_680),
        memory=PackMemory(arena_bytes=12_288 if recipe != "int8" else 3_072),
        quality=Quality(metric="top1", reference=0.9806, host=accuracy, samples=360),
        check=Check(
            status="ok",
            runtime="litert-2.3",
            samples=64,
            mse=0.0 if sqnr is None else 1e-4,
            max_abs=0.0,
            sqnr_db=sqnr,
        ),
        fit=Fit(ok=True),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def latency(samples: tuple[float, ...]) -> Latency:
    ordered = sorted(samples)
    n, at = len(ordered), lambda q: ordered[min(len(ordered) - 1, int(q * len(ordered)))]
    mean = sum(ordered) / n
    std = math.sqrt(sum((s - mean) ** 2 for s in ordered) / n)
    middle = at(0.5)
    return Latency(
        n=n,
        mean=mean,
        std=std,
        min=ordered[0],
        p50=middle,
        p90=at(0.9),
        p99=at(0.99),
        max=ordered[-1],
        ci95=(middle * 0.985, middle * 1.02),
    )


def measurement(
    made: str,
    device: str = "this-machine",
    target: str = LAPTOP.id,
    *,
    factor: float = 1.0,
    emulated: bool = False,
    runs: int = 200,
    **changes: object,
) -> Measurement:
    _, _, accuracy, median, share, _ = RECIPES[made]
    rng = random.Random(made + device)
    samples = tuple(
        round(median * factor * (1 + rng.expovariate(14) + (0.6 if rng.random() < 0.02 else 0)), 3)
        for _ in range(runs)
    )
    taken = Measurement(
        artefact_sha256=sha(made),
        pack_sha256=sha(made + target),
        device=DeviceRecord(
            id=device,
            link="local" if factor == 1 else "ssh",
            target=target,
            emulated=emulated,
            state={
                "cpu": "AMD EPYC 7B13" if factor == 1 else "Cortex-A72",
                "kernel": "6.1.0-13",
                "before": {"load": 0.31, "governor": "performance", "temperature_c": 48.5},
                "after": {"load": 0.87, "governor": "performance", "temperature_c": 51.0},
            },
        ),
        started_at="2026-11-23T20:05:11Z",
        status="ok",
        model="digits-cnn",
        recipe=made,
        versions={"numpy": "2.4.6", "python": "3.11.2"},
        protocol={"warmup_runs": 10, "runs": runs, "min_seconds": 1.0},
        runtime=RuntimeRecord(
            name="litert", version="2.3.0", threads=1, delegate="xnnpack", runner="litert-python"
        ),
        latency_us=latency(samples),
        samples_us=samples,
        init_us=median * 30 * factor,
        first_us=median * 4 * factor,
        memory=MeasuredMemory(peak_rss_bytes=48_300_032 + share, model_bytes=share),
        agreement=Agreement(
            samples=8, max_abs=0.0, max_abs_lsb=0.0 if made == "int8" else None, top1_match=1.0
        ),
        quality=Quality(
            metric="top1", reference=0.9806, host=accuracy, device=accuracy, samples=360
        ),
    )
    return replace(taken, **changes)  # type: ignore[arg-type]


def failed(recipe: str = "dynamic") -> Measurement:
    return measurement(
        recipe,
        "pi4-lab",
        BOARD.id,
        status="unreachable",
        latency_us=None,
        samples_us=None,
        init_us=None,
        first_us=None,
        memory=None,
        agreement=None,
        quality=None,
        runtime=None,
        error=ErrorRecord(
            code=5,
            message="pi4-lab: no answer from 192.0.2.7:22 within 15 s",
            hint="check that the board is on and that `ssh pi@192.0.2.7` works",
        ),
    )


def operators(recipe: str) -> tuple[Operator, ...]:
    width = {"float32": 4, "float16": 2}.get(recipe, 1)
    dtype = "int8" if recipe == "int8" else "float32"
    weights = {"float32": "float32", "float16": "float16"}.get(recipe, "int8")
    return tuple(
        Operator(
            index=index,
            subgraph=0,
            name=name,
            version=3,
            layer=f"digits/{layer}",
            dtype=dtype,
            weights=weights if params else None,
            granularity="per-channel" if params and width == 1 else "none",
            output_shape=shape,
            params=params,
            macs=macs,
            bytes_moved=math.prod(shape) * 2 * width + params * width,
            weight_bytes=params * width,
        )
        for index, (name, layer, shape, params, macs) in enumerate(LAYERS)
    )


def report() -> Report:
    """Two targets: here all is well; on the board one cell failed and one device is emulated."""
    packs = [pack(recipe, target) for target in (LAPTOP.id, BOARD.id) for recipe in RECIPES]
    packs[3] = replace(
        packs[3],
        steps=(StepRecord(name="int8", skipped=(Skipped(layer="softmax", why="no weights"),)),),
        notes=("calibrated on 200 samples by min-max",),
    )
    taken = [measurement(recipe) for recipe in RECIPES]
    for recipe in RECIPES:
        board = measurement(recipe, "pi4-lab", BOARD.id, factor=8.7)
        taken.append(board if recipe != "dynamic" else failed())
        taken.append(
            measurement(recipe, "emulated-aarch64", BOARD.id, factor=41, emulated=True, runs=60)
        )
    return build(
        packs,
        taken,
        {sha(recipe): operators(recipe) for recipe in RECIPES},
        [LAPTOP, BOARD],
        title="digits-cnn on two targets",
        versions=VERSIONS,
        created_at="2026-11-23T20:09:00Z",
        command="edgepack report build/demo",
    )


def stepped(target: str = LAPTOP.id) -> Pack:
    """A pack by a recipe of two steps, the later of which trained for nothing."""
    figures = {
        "params": 24_000.0,
        "macs": 600_000.0,
        "size_bytes": 103_644.0,
        "gzip_bytes": 94_212.0,
        "arena_bytes": 8_192.0,
        "latency_host_us": 61.4,
        "quality": 0.9806,
    }
    cut = {**figures, "macs": 300_000.0, "size_bytes": 60_000.0, "quality": 0.9706}
    quantised = {**cut, "size_bytes": 31_344.0, "latency_host_us": 15.2}
    steps = (
        StepRecord(
            name="prune-filters",
            changed=("conv2d: 16 → 8 filters",),
            skipped=(Skipped(layer="dense", why="its neurons are <the> outputs"),),
            seconds=12.5,
            before=figures,
            after=cut,
        ),
        StepRecord(name="finetune", changed=("all weights: 8 epochs",), before=cut, after=cut),
        StepRecord(name="int8", seconds=1.5, before=cut, after=quantised),
    )
    return replace(pack("int8", target), recipe="prune-filters50-int8", steps=steps)
