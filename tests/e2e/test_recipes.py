"""Every recipe with steps on two real models: what it promises is in the file at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.descriptions import CASES, describe
from edgepack.graph.constants import values
from edgepack.graph.parse import read
from edgepack.spec.library import paths
from edgepack.spec.recipe import Recipe
from tests.command import edgepack, records

pytestmark = [pytest.mark.e2e, pytest.mark.tf, pytest.mark.slow, pytest.mark.no_cover]
PLAIN = ("float32", "int8")
PROMISED = (
    *("qat-int8", "qat-int4", "qat-int16x8", "binary-int8", "ternary-int8", "sparse75-int8"),
    *("sparse75-distill-int8", "sparse75-qat-int8", "sparse2x4-int8"),
    *("prune-filters50-distill-int8", "prune-filters50-qat-distill-int8", "cluster16-int8"),
    *("cluster16-qat-int8", "sparse75-cluster16-qat-int8", "distill-int8"),
    *("lowrank-distill-int8", "separable-distill-qat-int8", "equalize-adaround-int8"),
)
RECIPES = {
    "har": PROMISED,
    "mnist": (
        *("binary-int8", "sparse2x4-int8", "prune-filters50-qat-distill-int8", "cluster16-int8"),
        *("sparse75-cluster16-qat-int8", "qat-int4"),
    ),
}
"""Model → the recipes that are tried on it; ``benchmarks.compress`` has every one on four."""
CHANNELS = {"CONV_2D": 0, "FULLY_CONNECTED": 0}
"""Operator → the axis of its kernel's output channels."""
ROWS = 320


@dataclass(frozen=True)
class Made:
    """The packs of one model by recipe, and the kernels of their files."""

    packs: dict[str, dict[str, Any]]

    def having(self, word: str) -> list[str]:
        """The recipes with ``word`` in their id, at least one."""
        found = [recipe for recipe in self.packs if word in recipe]
        assert found, word
        return found

    def kernels(self, recipe: str) -> list[np.ndarray]:
        """The integers of each convolution and dense layer: (output channels, the rest)."""
        graph = read(Path(self.packs[recipe]["artefact"]["path"]))
        found = []
        for operator in graph.main.operators:
            if operator.name in CHANNELS:
                tensor = graph.main.tensors[operator.inputs[1]]
                kernel = np.moveaxis(values(tensor), CHANNELS[operator.name], 0)
                found.append(kernel.reshape(len(kernel), -1).astype(int))
        return found


@pytest.fixture(scope="module", params=sorted(RECIPES))
def made(request, reference_data, tmp_path_factory) -> Made:
    """Every recipe from one command, taught by few samples for the time that it takes."""
    folder = tmp_path_factory.mktemp(request.param)
    case = CASES[request.param]
    model, calibration, evaluation = describe(request.param, reference_data, folder, every=10)
    train = folder / "train.toml"
    train.write_text(
        f'source = "npz"\npath = "{reference_data / "sets" / case.calibration}"\n'
        f'x = "x"\ny = "y"\ncount = {ROWS}\nseed = 0\n[preprocess]\nscale = {case.scale}\n'
    )
    done = edgepack(
        "pack", model, "--target", "generic-linux-x86_64", "--json", "-o", folder / "out",
        "--train", train, "--calibration", calibration, "--evaluation", evaluation,
        *(["--allow-overlap"] if request.param == "har" else []),  # its recordings repeat rows
        *(word for recipe in (*PLAIN, *RECIPES[request.param]) for word in ("--recipe", recipe)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Made({record["recipe"]: record for record in records(done.stdout)})


def test_the_list_is_whole():
    assert set(PROMISED) <= set(paths(Recipe))


def test_every_recipe_runs_and_tells_of_each_step(made):
    for recipe, pack in made.packs.items():
        assert pack["status"] == pack["check"]["status"] == "ok", recipe
        for step in pack["steps"]:
            assert step["changed"] or step["skipped"], recipe
            assert step["before"]["quality"] is not None
            assert step["after"]["macs"] > 0


def test_sparsity_outlives_training_and_export(made):
    for recipe in made.having("sparse75"):
        kernels = made.kernels(recipe)
        zeros = sum(int((kernel == 0).sum()) for kernel in kernels)
        assert zeros >= 0.99 * 0.75 * sum(kernel.size for kernel in kernels), recipe


def test_two_of_four_are_zero(made):
    for kernel in made.kernels("sparse2x4-int8"):
        groups = kernel[:, : kernel.shape[1] // 4 * 4].reshape(-1, 4)
        assert ((groups != 0).sum(1) <= 2).all()


def test_a_channel_has_at_most_sixteen_integers(made):
    for recipe in made.having("cluster16-qat"):
        for kernel in made.kernels(recipe):
            assert max(len(np.unique(channel)) for channel in kernel) <= 16, recipe


def test_one_palette_serves_a_whole_tensor(made):
    for kernel in made.kernels("cluster16-int8"):
        assert len(np.unique(kernel)) <= 16


def test_inner_layers_hold_signs(made):
    for recipe in (*made.having("binary"), *(r for r in made.packs if "ternary" in r)):
        inner = made.kernels(recipe)[1:-1]
        assert inner
        for kernel in inner:
            assert set(np.unique(np.abs(kernel))) <= {0, 127}
            assert (kernel == 0).any() == (recipe == "ternary-int8")


def test_cut_filters_are_gone(made):
    whole = made.packs["int8"]
    for recipe in made.having("prune-filters50"):
        cut = made.packs[recipe]
        assert cut["cost"]["macs"] <= 0.5 * whole["cost"]["macs"]
        assert cut["artefact"]["size_bytes"] < 0.9 * whole["artefact"]["size_bytes"]
        assert cut["memory"]["arena_bytes"] < whole["memory"]["arena_bytes"]


def test_low_rank_has_the_parameters_that_were_asked_for(made):
    params = {name: pack["cost"]["params"] for name, pack in made.packs.items()}
    for recipe in (name for name in params if "lowrank" in name):
        assert params[recipe] <= 0.7 * params["int8"]


def test_integers_have_the_widths_of_the_scheme(made):
    widths = {"int8": {"int8", "int32"}, "int4": {"int4"}, "int16x8": {"int16"}}
    for recipe in made.having("qat-"):
        graph = read(Path(made.packs[recipe]["artefact"]["path"]))
        kinds = {tensor.dtype for tensor in graph.main.tensors}
        scheme = recipe.rpartition("-")[2]
        assert widths[scheme] <= kinds, recipe
        assert scheme != "int8" or kinds == widths["int8"], recipe
