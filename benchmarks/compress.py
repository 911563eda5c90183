"""Every technique on real models, beside TFMOT, TFLiteConverter and litert-quantizer.

One table: accuracy over seeds, the paired difference to float with its interval, bytes raw and
gzipped, MACs, arena, latency on this machine beside float's, seconds of training. All train on
the same rows with the same number of epochs; the test sets judge and nothing else. What is made
is kept in ``--out`` and found again, so that a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks.compress_rows import Row, fill, table
from benchmarks.converter_int8 import converter_int8
from benchmarks.descriptions import CASES, describe
from benchmarks.latency import interleaved_us
from benchmarks.paired import difference
from benchmarks.peers.environment import peer_python
from benchmarks.reference import reference_data
from benchmarks.timing import cores
from edgepack.export.flatbuffer import completed
from edgepack.files import gzip_size, write_bytes
from edgepack.graph.facts import facts
from edgepack.model.data import Data, open_data
from edgepack.model.load import load
from edgepack.spec.data import Dataset
from edgepack.spec.library import find
from edgepack.spec.recipe import Recipe
from edgepack.workflow import artefact, ask
from edgepack.workflow.job import Trust
from edgepack.workflow.pack import pack_all

MODELS = ("resnet8", "mnist", "har", "tinymaix")
TARGET, RUNTIME = "generic-linux-x86_64", "litert-2.3"
EDGEPACK = (
    "float32", "int8", "int4", "equalize-adaround-int8", "finetune-int8", "qat-int8", "qat-int4",
    "qat-int16x8", "binary-int8", "ternary-int8", "sparse75-int8", "sparse75-distill-int8",
    "sparse75-qat-int8", "sparse2x4-int8", "prune-filters50-distill-int8",
    "prune-filters50-qat-distill-int8", "prune-filters25-distill-int8", "cluster16-int8",
    "cluster16-qat-int8", "sparse75-cluster16-qat-int8", "distill-int8", "lowrank-distill-int8",
    "separable-distill-qat-int8",
)  # fmt: skip
TFMOT = {
    "finetune": "finetune-int8",
    "qat": "qat-int8",
    "prune": "sparse75-int8",
    "prune-qat": "sparse75-qat-int8",
    "pqat": "sparse75-qat-int8",
    "cluster": "cluster16-int8",
    "cqat": "cluster16-qat-int8",
    "pcqat": "sparse75-cluster16-qat-int8",
}
"""TFMOT's technique → the recipe whose epochs, batch size and learning rate it gets."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """One flatbuffer of one technique with one seed, and the seconds that its steps took."""

    technique: str
    maker: str
    seed: int
    path: Path
    seconds: float = 0.0


def main() -> None:
    """Print the tables, one for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=[*MODELS], choices=MODELS)
    parser.add_argument("--recipes", nargs="*", default=[*EDGEPACK])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("build/compress"))
    parser.add_argument("--docs", type=Path, help="pages whose figures are written anew")
    options = parser.parse_args()
    print(f"{cores()}; latency: LiteRT on this machine, one thread, interleaved")
    for name in options.models:
        every = list(artefacts(name, options))
        rows = judged(name, every, options.out)
        print(table(rows), flush=True)
        text = json.dumps([asdict(row) for row in rows], indent=1)
        write_bytes(options.out / f"{name}.json", text.encode())
    if options.docs:
        kept = [options.out / f"{name}.json" for name in MODELS]
        fill(options.docs, [path for path in kept if path.is_file()])


def artefacts(name: str, options: argparse.Namespace) -> Iterator[Made]:
    """Everything made of one model."""
    for seed in range(options.seeds):
        yield from ours(name, options.recipes, seed, options.out)
    if options.no_peers:
        return
    yield converted(name, options.out)
    for seed in range(options.seeds):
        yield from tfmot(name, seed, options.out)


def ours(name: str, recipes: list[str], seed: int, out: Path) -> Iterator[Made]:
    """Edgepack's recipes; what does not train is made once."""
    chosen = [r for r in recipes if seed == 0 or find(Recipe, r).needs_train]
    if not chosen:
        return
    folder = out / name / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    model, train, calibration, evaluation = described(name, folder)
    job = ask.job(
        model,
        targets=[TARGET],
        recipes=chosen,
        train=str(train),
        calibration=str(calibration),
        evaluation=str(evaluation),
        out=folder,
        seed=seed,
        resume=True,
        trust=Trust(overlap=name == "har"),  # its recordings repeat rows
    )
    for pack in pack_all(job):
        if pack.artefact is None:
            print(f"{name} {pack.recipe}: {pack.error.message if pack.error else pack.status}")
            continue
        yield Made(
            technique=pack.recipe,
            maker="edgepack",
            seed=seed,
            path=Path(pack.artefact.path),
            seconds=sum(step.seconds for step in pack.steps),
        )


def described(name: str, folder: Path) -> tuple[Path, Path, Path, Path]:
    """(model, descriptions of training, calibration and evaluation data)."""
    case, data = CASES[name], reference_data()
    model, calibration, evaluation = describe(name, data, folder)
    train = folder / f"{name}-train.toml"
    text = f'source = "npz"\npath = "{data / "sets" / case.calibration}"\nx = "x"\ny = "y"\n'
    train.write_text(f"{text}[preprocess]\nscale = {case.scale}\noffset = {case.offset}\n")
    return model, train, calibration, evaluation


def converted(name: str, out: Path) -> Made:
    """Plain TFLiteConverter."""
    path = out / name / "converter" / "int8.tflite"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        source, _, calibration, _ = described(name, path.parent)
        model = load(source)
        content = converter_int8(model, open_data(find(Dataset, str(calibration))))
        write_bytes(path, completed(content, model))
    return Made(technique="int8", maker="TFLiteConverter", seed=0, path=path)


def tfmot(name: str, seed: int, out: Path) -> Iterator[Made]:
    """TFMOT's techniques, each with the budget of edgepack's recipe beside it."""
    case, data = CASES[name], reference_data()
    python = peer_python(out / "tfmot-environment")
    for technique, recipe in TFMOT.items():
        folder = out / name / "tfmot" / f"seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        path, record = folder / f"{technique}.tflite", folder / f"{technique}.json"
        trained = [step.train for step in find(Recipe, recipe).steps if step.train]
        job = {
            "seed": seed,
            "model": str(data / "models" / case.model),
            "train": str(data / "sets" / case.calibration),
            "scale": case.scale,
            "calibration": list(case.calibrate),
            "technique": technique,
            "epochs": sum(step.epochs for step in trained),
            "learning_rate": max(step.learning_rate for step in trained),
            "batch_size": trained[0].batch_size,
            "sparsity": 0.75,
            "clusters": 16,
            "out": str(path),
        }
        known = json.loads(record.read_text()) if record.is_file() else {}
        if known.get("job") != job:
            done = subprocess.run(
                [
                    str(python),
                    str(Path(__file__).parent / "peers/tfmot_compress.py"),
                    json.dumps(job),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                print(f"{name}: TFMOT {technique} failed: {done.stderr.strip().splitlines()[-1]}")
                continue
            known = {"job": job, **json.loads(done.stdout.splitlines()[-1])}
            record.write_text(json.dumps(known))
        yield Made(
            technique=f"{technique} ({recipe})",
            maker="TFMOT",
            seed=seed,
            path=path,
            seconds=known["seconds"],
        )


def judged(name: str, every: list[Made], out: Path) -> list[Row]:
    """The rows of one model: the test set judges each artefact once."""
    folder = out / name
    _, _, _, evaluation = described(name, folder)
    data = open_data(find(Dataset, str(evaluation)))
    labels = np.asarray(data.labels())
    correct = {made.path: answered(made.path, data) == labels for made in every}
    baseline = next(m for m in every if m.technique == "float32")
    latencies = interleaved_us([made.path for made in every if made.seed == 0])
    groups: dict[tuple[str, str], list[Made]] = {}
    for made in every:
        groups.setdefault((made.technique, made.maker), []).append(made)
    rows = []
    for (technique, maker), group in groups.items():
        first = group[0]
        known = facts(first.path)
        right = np.stack([correct[made.path] for made in group])
        rows.append(
            Row(
                model=name,
                technique=technique,
                maker=maker,
                seeds=len(group),
                accuracy=float(right.mean()),
                seed_spread=float(np.ptp(right.mean(1))),
                to_float=difference(right, correct[baseline.path]),
                size_bytes=round(statistics.mean(m.path.stat().st_size for m in group)),
                gzip_bytes=round(statistics.mean(gzip_size(m.path.read_bytes()) for m in group)),
                params=known.cost.params,
                macs=known.cost.macs,
                arena_bytes=known.memory.arena_bytes,
                latency_us=latencies[first.path],
                latency_ratio=latencies[first.path] / latencies[baseline.path],
                training_s=statistics.mean(made.seconds for made in group),
            )
        )
    return rows


def answered(path: Path, data: Data) -> NDArray[np.int64]:
    """The class that a flatbuffer gives to each sample of ``data``."""
    run = artefact.function(path, facts(path).signatures[0], RUNTIME)
    found: list[Any] = [run(list(batch.x))[0].argmax(-1) for batch in data.batches(512)]
    return np.concatenate(found).reshape(-1)


if __name__ == "__main__":
    main()
