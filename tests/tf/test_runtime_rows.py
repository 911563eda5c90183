"""The tables of the runtimes, measured anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgepack.runtimes import child, schemes, tables
from edgepack.runtimes.tables import Row, Runtime
from tests.needs import needs
from tests.tf import runtime_rows, single_ops
from tests.tf.runtime_rows import Exported

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.no_cover]


@dataclass(frozen=True)
class Built:
    folder: Path
    files: list[Exported]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("single_ops")
    return Built(folder, runtime_rows.build(folder))


@pytest.fixture(params=tables.known())
def runtime(request: pytest.FixtureRequest) -> Runtime:
    missing = child.available(request.param)
    needs(missing is None, str(missing))
    return tables.load(request.param)


def key(row: Row) -> tuple[object, ...]:
    return row.op, row.activations, row.weights, row.granularity, row.version


def test_every_row_is_what_the_runtime_does(runtime: Runtime, built: Built) -> None:
    seen = runtime_rows.run(runtime.id, built.folder, built.files)
    found = {key(row): row.verdict for row in runtime_rows.rows(seen)}
    assert {key(row): row.verdict for row in runtime.rows} == found
    for item in seen:
        form = item.form
        row = runtime.verdict(
            form.op, form.activations, form.weights, form.granularity, form.version
        )
        assert row is not None
        if row.tolerance is not None:
            assert item.error <= row.tolerance, row


def test_the_operators_are_those_that_the_runtime_knows(runtime: Runtime) -> None:
    builtin = runtime_rows.operators(runtime.id, single_ops.empty_models)
    assert sorted(runtime.operators or ()) == builtin
    custom = runtime_rows.operators(runtime.id, single_ops.custom_models)
    assert sorted(runtime.custom_operators) == custom
    assert runtime.flex == ("FlexErf" in custom)


def test_the_producers_make_the_forms_that_schemes_are_judged_by(built: Built) -> None:
    """What ``schemes.form`` says without exporting leads to the row of the real export.

    Variants aside: only the file itself tells that its operators have a later version.
    """
    checked = set()
    for file in built.files:
        if not file.name.startswith(f"{file.form.op}-"):
            continue
        scheme = file.scheme.removesuffix("-tensor")
        if scheme not in schemes.DTYPES or file.producer not in schemes.PRODUCERS[scheme]:
            continue
        said = schemes.form(scheme, file.producer, file.form.op, per_tensor=scheme != file.scheme)
        real = file.form
        wanted = (real.op, real.activations, real.weights, real.granularity)
        assert (said.op, said.activations, said.weights, said.granularity) == wanted, file.name
        for runtime in map(tables.load, tables.known()):
            assert runtime.verdict(*wanted, said.version) is runtime.verdict(
                *wanted, real.version
            ), file.name
        checked.add((scheme, file.producer))
    assert checked == {(s, p) for s, producers in schemes.PRODUCERS.items() for p in producers}


def test_one_channels_scale_used_for_all_is_wrong(built: Built, tmp_path: Path) -> None:
    """The silent fault of several runtimes is far from what rounding costs."""
    file = next(f for f in built.files if f.name == "FULLY_CONNECTED-bare-quantizer-dynamic")
    scales = np.array(file.parsed.graph.tensors[file.parsed.operator.inputs[1]].quantization.scale)
    for name, outputs, verdict in (
        ("right", file.ideal, "exact"),
        ("one-scale", file.ideal * scales[0] / scales, "wrong"),
        ("nan", file.ideal * np.nan, "wrong"),
        ("rounded", file.ideal + 0.004 * np.ptp(file.ideal), "tolerance"),
    ):
        np.save(tmp_path / f"{name}.npy", outputs)
        assert runtime_rows.judge(file, tmp_path / f"{name}.npy", None).verdict == verdict


def test_a_bound_is_twice_the_error_at_least() -> None:
    for error in (0.0031, 0.0048, 0.0085, 3.9e-5, 0.005, 0.01):
        bound = runtime_rows.bound(error)
        assert 2 * error <= bound * (1 + 1e-12) <= 5.1 * error


def test_every_operator_is_exported(built: Built) -> None:
    assert {file.form.op for file in built.files} == {op.name for op in single_ops.operators()}
