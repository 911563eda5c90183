"""Measure the rows of every runtime's table, and write them into its TOML.

``python -m tests.tf.runtime_rows`` prints them; ``--write`` puts them in place of those in
``edgepack/runtimes/*.toml``. To add a version: write the TOML's head by hand, with
``operators = []`` and ``rows = []`` last, teach ``edgepack.runtimes.child`` to start it, and
run this with ``--write``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from edgepack.runtimes import child, tables
from edgepack.runtimes.tables import Row
from tests.tf import op_forms, single_ops

HERE = Path(__file__).parent
EXACT = 1e-4
WRONG = 0.05
"""Fractions of the output's range: what is as good as equal, and what no rounding explains."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One single-operator flatbuffer and what it ought to compute."""

    name: str
    scheme: str
    producer: str
    form: op_forms.Form
    parsed: op_forms.Parsed
    ideal: np.ndarray
    step: float


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one runtime made of one flatbuffer; ``error`` is a fraction of the output's range."""

    form: op_forms.Form
    verdict: tables.Verdict
    error: float = math.inf
    note: str = ""


def build(folder: Path) -> list[Exported]:
    """Export every operator in every form into ``folder``, as .tflite and .npz (the inputs)."""
    built = []
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        for operator in single_ops.operators():
            built.extend(_forms(operator, folder))
    return built


def _forms(operator: single_ops.Operator, folder: Path) -> Iterator[Exported]:
    model, data = single_ops.model(operator), single_ops.samples(operator)
    weights = model.get_weights()
    float32 = single_ops.converted(model, data, "float32")
    for producer, scheme in _wanted(operator):
        model.set_weights(weights)
        if producer == "converter":
            content = single_ops.converted(model, data, scheme)
        else:
            content = single_ops.quantized(float32, data, scheme)
        if producer == "quantizer":
            content = single_ops.with_versions(content)
        parsed = op_forms.parse(content, operator.name)
        inputs, ideal, step = op_forms.reference(parsed, operator, model, data)
        name = f"{operator.name}{operator.variant}-{producer}-{scheme}"
        (folder / f"{name}.tflite").write_bytes(content)
        np.savez(folder / f"{name}.npz", **{f"in{i}": array for i, array in enumerate(inputs)})
        yield Exported(
            name=name,
            scheme=scheme,
            producer=producer,
            form=op_forms.form(parsed, operator.name),
            parsed=parsed,
            ideal=ideal,
            step=step,
        )


def _wanted(operator: single_ops.Operator) -> Iterator[tuple[str, str]]:
    """(producer, scheme) of each export; ``quantizer`` is as edgepack delivers it.

    ``bare-quantizer`` keeps the operator versions of the float model, as litert-quantizer
    leaves them: files from elsewhere are so.
    """
    schemes = {
        "converter": single_ops.CONVERTER_FORMS,
        "quantizer": single_ops.QUANTIZER_FORMS,
        "bare-quantizer": single_ops.QUANTIZER_FORMS,
    }
    for producer, names in schemes.items():
        for scheme in names:
            refused = (producer, operator.name, scheme) == ("converter", "HARD_SWISH", "int16x8")
            if (operator.weighted or scheme in single_ops.WEIGHTLESS_FORMS) and not refused:
                yield producer, scheme


def run(runtime_id: str, folder: Path, exported: Iterable[Exported]) -> list[Seen]:
    """Run every file in one child process; after a crash the next child does the rest."""
    interpreter = child.interpreter(runtime_id)
    files = {file.name: file for file in exported}
    seen, todo = [], list(files)
    while todo:
        done = subprocess.run(
            [interpreter.python, HERE / "run_single_ops.py", interpreter.name, folder, *todo],
            env={**os.environ, **interpreter.environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        if not lines:
            raise RuntimeError(f"{runtime_id} did not start: {done.stderr}")
        for line in lines:
            if "error" in line:
                outputs = folder / f"{line['name']}.{interpreter.name}.npy"
                seen.append(judge(files[line["name"]], outputs, line["error"]))
        last = lines[-1]["name"]
        if "error" not in lines[-1]:
            note = f"crashes with {child.signal_name(-done.returncode)}"
            seen.append(Seen(form=files[last].form, verdict="wrong", note=note))
        todo = todo[todo.index(last) + 1 :]
    return seen


def judge(file: Exported, outputs: Path, error: str | None) -> Seen:
    """The verdict on what the runtime returned for one file."""
    if error is not None:
        return Seen(form=file.form, verdict="refused", note=_first_line(error))
    found = op_forms.values(np.load(outputs), file.parsed).reshape(file.ideal.shape)
    largest = float(np.abs(found.astype(np.float64) - file.ideal).max())
    relative = largest / float(np.ptp(file.ideal))
    if not relative < WRONG:
        return Seen(form=file.form, verdict="wrong", error=relative, note=_fault(relative))
    exact = largest <= file.step or relative <= EXACT
    return Seen(form=file.form, verdict="exact" if exact else "tolerance", error=relative)


def _fault(relative: float) -> str:
    if math.isnan(relative):
        return "returns NaN"
    if relative > 10:
        return "returns garbage"
    return f"off by {relative:.0%} of the output's range"


def rows(seen: Iterable[Seen]) -> list[Row]:
    """One row for each form; versions share a row as long as they fare the same."""
    order = list(dict.fromkeys(operator.name for operator in single_ops.operators()))

    def key(item: Seen) -> tuple[object, ...]:
        form = item.form
        return order.index(form.op), form.activations, form.weights, form.granularity

    found: list[Row] = []
    for _, group in groupby(sorted(worst(seen), key=lambda s: (key(s), s.form.version)), key):
        first = True
        for verdict, same in groupby(group, lambda item: item.verdict):
            items = list(same)
            form, error = items[0].form, max(item.error for item in items)
            row = Row(
                op=form.op,
                activations=form.activations,
                weights=form.weights,
                granularity=form.granularity,
                version=1 if first else form.version,
                verdict=verdict,
                tolerance=bound(error) if verdict == "tolerance" else None,
                note=items[0].note,
            )
            found.append(row)
            first = False
    return found


def worst(seen: Iterable[Seen]) -> list[Seen]:
    """Of each form the worst that was seen: shapes and producers may fare differently."""
    found: dict[op_forms.Form, Seen] = {}
    for item in seen:
        other = found.setdefault(item.form, item)
        ranks = [tables.WORST.index(one.verdict) for one in (item, other)]
        if ranks[0] < ranks[1] or (ranks[0] == ranks[1] and item.error > other.error):
            found[item.form] = item
    return list(found.values())


def bound(error: float) -> float:
    """Twice the error, rounded up to 1, 2 or 5 times a power of ten: it varies with the CPU."""
    power = 10.0 ** math.floor(math.log10(2 * error))
    digit = next(digit for digit in (1, 2, 5, 10) if digit * power >= 2 * error)
    return float(f"{digit * power:.0e}")


def operators(runtime_id: str, models: Callable[[Path], None]) -> list[str]:
    """Which of the operators of ``models`` the runtime knows, found by offering it each."""
    interpreter = child.interpreter(runtime_id)
    with tempfile.TemporaryDirectory() as folder:
        models(Path(folder))
        done = subprocess.run(
            [interpreter.python, HERE / "probe_operators.py", interpreter.name, folder],
            env={**os.environ, **interpreter.environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
    return sorted(json.loads(done.stdout.splitlines()[-1]))


def rendered(names: Iterable[str], customs: Iterable[str], table: Iterable[Row]) -> str:
    """The measured part of a runtime's TOML."""
    lines = ["operators = [", *(f'  "{name}",' for name in names), "]"]
    lines += ["custom_operators = [", *(f'  "{name}",' for name in customs), "]", "rows = ["]
    for row in table:
        parts = {
            "op": row.op,
            "activations": row.activations,
            "weights": row.weights,
            "granularity": row.granularity,
            "version": row.version if row.version > 1 else None,
            "verdict": row.verdict,
            "tolerance": row.tolerance,
            "note": row.note or None,
        }
        said = [
            f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in parts.items() if v is not None
        ]
        lines.append("  { " + ", ".join(said) + " },")
    return "\n".join([*lines, "]", ""])


def _first_line(text: str) -> str:
    """A runtime's message without the place in its sources."""
    line = re.sub(r"^\S+\.cc(:\d+)?\s*", "", text.strip().splitlines()[0])
    return textwrap.shorten(line, 100, placeholder=" …")


def main(write: bool) -> None:
    """Print or write what every runtime makes of every operator in every form."""
    with tempfile.TemporaryDirectory() as name:
        exported = build(Path(name))
        for runtime_id in tables.known():
            table = rows(run(runtime_id, Path(name), exported))
            builtin = operators(runtime_id, single_ops.empty_models)
            custom = operators(runtime_id, single_ops.custom_models)
            measured = rendered(builtin, custom, table)
            path = Path(tables.__file__).parent / f"{runtime_id}.toml"
            if write:
                head = path.read_text().partition("operators = [")[0]
                path.write_text(head + measured)
            print(f"# {path.name}", measured if not write else "written", sep="\n")


if __name__ == "__main__":
    main("--write" in sys.argv[1:])
