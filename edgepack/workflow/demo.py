"""The demos: a small CNN trained, packed by several recipes and measured; nothing else needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from platform import machine

from edgepack.model.data import open_data
from edgepack.model.digits import train_digits
from edgepack.spec.data import Dataset
from edgepack.spec.library import find
from edgepack.spec.recipe import Recipe
from edgepack.spec.target import Limits, Target
from edgepack.workflow.job import Job
from edgepack.workflow.measure import Request, request

RECIPES = ("float32", "float16", "dynamic", "int8")
COMPRESSIONS = (
    *("float32", "int8", "qat-int4", "ternary-int8", "sparse75-distill-int8"),
    *("prune-filters50-distill-int8", "cluster16-int8", "sparse75-cluster16-qat-int8"),
    *("distill-int8", "lowrank-distill-int8", "separable-distill-qat-int8"),
    "equalize-adaround-int8",
)
"""Every family of techniques, beside what is compared with them."""
EMULATED = ("emulated-aarch64", "emulated-phone")
"""A board by SSH and a phone by ADB: one emulated machine, booted once."""
LIMITS = Limits(max_latency_ms=1.0, max_flash_kib=96.0, max_accuracy_drop=0.01)


def demo_target() -> Target:
    """This machine's kind of hardware, with limits as a product would have them."""
    base = find(
        Target, "generic-linux-aarch64" if machine() == "aarch64" else "generic-linux-x86_64"
    )
    return replace(base, id="demo", name=f"{base.name}, with the demo's limits", limits=LIMITS)


def demo_job(out: Path, recipes: Sequence[str] = RECIPES, target: Target | None = None) -> Job:
    """Train the demo's model into ``out`` and ask for it by those recipes; see ``demo_target``."""
    model = out / "digits.keras"
    train_digits(open_data(find(Dataset, "digits-train")), model)
    return Job(
        model=model,
        targets=(target or demo_target(),),
        recipes=tuple(find(Recipe, name) for name in recipes),
        out=out,
        train=find(Dataset, "digits-train"),
        calibration=find(Dataset, "digits-calibration"),
        evaluation=find(Dataset, "digits-evaluation"),
    )


def demo_request(out: Path) -> Request:
    """Measure what lies in ``out`` on this machine."""
    asked = request(out, devices=["this-machine"], evaluation="digits-evaluation")
    return replace(asked, devices=tuple(replace(d, target="demo") for d in asked.devices))


def devices_job(out: Path) -> Job:
    """The demo's model in float32 and int8 for 64-bit Arm, without limits: it is emulated."""
    return demo_job(out, ("float32", "int8"), find(Target, "generic-linux-aarch64"))


def devices_request(out: Path) -> Request:
    """Measure what lies in ``out`` on the emulated devices."""
    return request(out, devices=EMULATED, evaluation="digits-evaluation")
