"""Each bad input: the contract's exit code, one clear line, empty stdout, nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgepack.cli.app import run
from tests.tiny import Tiny, write_set
from tests.unit.graph.flatbuffers import convolution

pytestmark = pytest.mark.tf
TARGET = "generic-linux-x86_64"


@pytest.fixture
def place(tmp_path: Path, tiny: Tiny) -> Path:
    """A folder of the tiny model's files that a case may spoil."""
    for path in tiny.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def pack(place: Path, model: str = "tiny.keras", *more: str, recipe: str = "int8") -> list[str]:
    """A whole pack command; ``more`` comes last, so that it overrides."""
    argv = ["pack", str(place / model), "--target", TARGET, "--recipe", recipe]
    argv += ["-o", str(place / "out")]
    if "--calibration" not in more:
        argv += ["--calibration", str(place / "calibration.toml")]
    if "--evaluation" not in more:
        argv += ["--evaluation", str(place / "evaluation.toml")]
    return [*argv, *more]


def missing_model(place):
    return pack(place, "nowhere.keras"), 3, "no such file"


def empty_model(place):
    (place / "empty.keras").write_bytes(b"")
    return pack(place, "empty.keras"), 3, "empty"


def truncated_model(place):
    content = (place / "tiny.keras").read_bytes()
    (place / "cut.keras").write_bytes(content[: len(content) // 2])
    return pack(place, "cut.keras"), 3, "cut.keras"


def text_as_model(place):
    (place / "text.h5").write_text("not a model\n")
    return pack(place, "text.h5"), 3, "text.h5"


def folder_as_model(place):
    (place / "folder").mkdir()
    return pack(place, "folder"), 3, "saved_model.pb"


def unknown_model_type(place):
    (place / "model.onnx").write_bytes(b"\x08\x07" * 40)
    return pack(place, "model.onnx"), 3, "model.onnx"


def damaged_weights(place):
    with zipfile.ZipFile(place / "tiny.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = b"\x89HDF\r\n\x1a\n" + b"\0" * 64
    with zipfile.ZipFile(place / "damaged.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return pack(place, "damaged.keras"), 3, "damaged.keras"


def lambda_layer(place):
    with zipfile.ZipFile(place / "tiny.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1].update(class_name="Lambda", module="keras.layers")
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(place / "lambda.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return pack(place, "lambda.keras"), 3, "--allow-lambda"


def unknown_target(place):
    return pack(place, "tiny.keras", "--target", "rpi4-46"), 2, "did you mean"


def unknown_recipe(place):
    return pack(place, recipe="int88"), 2, "did you mean 'int8'"


def broken_target_file(place):
    (place / "mine.toml").write_text("name = \n")
    return pack(place, "tiny.keras", "--target", str(place / "mine.toml")), 2, "not valid TOML"


def unknown_key_in_recipe(place):
    (place / "mine.toml").write_text('scheme = "int8"\ncalibratr = "mse"\n')
    return pack(place, recipe=str(place / "mine.toml")), 2, "did you mean 'calibrator'"


def no_calibration(place):
    argv = ["pack", str(place / "tiny.keras"), "--target", TARGET, "--recipe", "int8"]
    return [*argv, "-o", str(place / "out")], 2, "--calibration"


def scheme_that_the_runtime_refuses(place):
    argv = pack(place, recipe="float16")
    argv[argv.index(TARGET)] = "nucleo-f446re"
    return argv, 4, "float16"


def missing_data_description(place):
    return pack(place, "tiny.keras", "--calibration", str(place / "no.toml")), 2, "no.toml"


def missing_data_file(place):
    (place / "calibration.npz").unlink()
    return pack(place), 7, "calibration.npz"


def data_without_that_key(place):
    np.savez(place / "calibration.npz", images=np.zeros((4, 8, 8, 1), np.float32))
    return pack(place), 7, "'x'"


def data_of_wrong_shape(place):
    write_set(place, "calibration", x=np.zeros((4, 9, 9, 1), np.float32))
    return pack(place), 7, "9"


def data_with_nan(place):
    x = np.zeros((4, 8, 8, 1), np.float32)
    x[2, 0, 0, 0] = np.nan
    write_set(place, "calibration", x=x)
    return pack(place), 7, "NaN"


def empty_calibration(place):
    write_set(place, "calibration", x=np.zeros((0, 8, 8, 1), np.float32))
    return pack(place), 7, "no samples"


def pickled_data(place):
    np.savez(place / "calibration.npz", x=np.array([{"a": 1}], object))
    return pack(place), 7, "Python objects"


def data_that_is_no_archive(place):
    (place / "calibration.npz").write_bytes(b"not a zip")
    return pack(place), 7, "calibration.npz"


def labels_of_another_length(place):
    x = np.random.default_rng(5).random((6, 8, 8, 1), np.float32)
    write_set(place, "evaluation", x=x, y=np.zeros(5, int))
    return pack(place), 7, "5"


def label_out_of_range(place):
    x = np.random.default_rng(5).random((6, 8, 8, 1), np.float32)
    write_set(place, "evaluation", x=x, y=np.array([0, 1, 2, 3, 0, 9]))
    return pack(place), 7, "9"


def overlapping_sets(place):
    with np.load(place / "evaluation.npz") as archive:
        write_set(place, "calibration", x=archive["x"][:3])
    return pack(place), 7, "--allow-overlap"


def unknown_metric(place):
    text = (place / "evaluation.toml").read_text().replace("top1", "top11")
    (place / "evaluation.toml").write_text(text)
    return pack(place), 7, "top11"


def python_data_without_the_flag(place):
    (place / "calibration.toml").write_text('source = "python"\npath = "data.py:samples"\n')
    return pack(place), 7, "--allow-code"


def unknown_key_in_data(place):
    with (place / "calibration.toml").open("a") as file:
        file.write("cuont = 3\n")
    return pack(place), 2, "did you mean 'count'"


def unwritable_output(place):
    (place / "file").write_text("in the way")
    return pack(place, "tiny.keras", "-o", str(place / "file" / "out")), 2, "cannot write"


def output_where_no_folder_can_be(place):
    return pack(place, "tiny.keras", "-o", "/proc/edgepack"), 2, "cannot write"


def output_that_is_empty(place):
    return pack(place, "tiny.keras", "-o", ""), 2, "the name is empty"


def report_that_is_nameless(place):
    return ["report", str(place), "-o", ""], 2, "the name is empty"


def demo_that_is_nameless(place):
    return ["demo", "-o", ""], 2, "the name is empty"


def inspect_of_text(place):
    (place / "text.tflite").write_text("not a flatbuffer at all")
    return ["inspect", str(place / "text.tflite")], 3, "text.tflite"


def inspect_of_nothing(place):
    return ["inspect", str(place / "none.tflite")], 3, "none.tflite"


def inspect_of_a_folder(place):
    return ["inspect", str(place)], 3, str(place)


def measure_of_nothing(place):
    return ["measure", str(place / "none.tflite"), "--device", "this-machine"], 3, "none.tflite"


def measure_of_garbage(place):
    (place / "garbage.tflite").write_bytes(b"\x1c\0\0\0TFL3" + os.urandom(200))
    return ["measure", str(place / "garbage.tflite"), "--device", "this-machine"], 3, "garbage"


def measure_of_an_empty_folder(place):
    (place / "empty").mkdir()
    return ["measure", str(place / "empty"), "--device", "this-machine"], 2, "empty"


def inputs_that_are_cut_short(place):
    (place / "x.tflite").write_bytes(convolution())
    content = (place / "calibration.npz").read_bytes()
    (place / "cut.npz").write_bytes(content[: len(content) // 2])
    argv = ["measure", str(place / "x.tflite"), "--device", "this-machine"]
    return [*argv, "--inputs", str(place / "cut.npz")], 7, "cut.npz"


def inputs_that_are_empty(place):
    (place / "x.tflite").write_bytes(convolution())
    (place / "empty.npz").write_bytes(b"")
    argv = ["measure", str(place / "x.tflite"), "--device", "this-machine"]
    return [*argv, "--inputs", str(place / "empty.npz")], 7, "empty.npz"


def unknown_device(place):
    (place / "x.tflite").write_bytes(b"")
    return ["measure", str(place / "x.tflite"), "--device", "this-machin"], 2, "did you mean"


def report_of_nothing(place):
    return ["report", str(place)], 2, "nothing to report"


def report_of_a_broken_record(place):
    record = place / "packs/a/b/c/pack.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"schema": "edgepack.pack/1"')
    return ["report", str(place)], 2, "pack.json"


def plan_with_a_typo(place):
    (place / "plan.toml").write_text('model = "m"\ntargets = ["a"]\nrecipies = ["int8"]\n')
    return ["run", str(place / "plan.toml"), "-o", str(place / "out")], 2, "did you mean 'recipes'"


def plan_of_a_broken_model(place):
    """The output folder is there already, so that a report of nothing might hide what is wrong."""
    (place / "text.h5").write_text("not a model\n")
    (place / "out").mkdir()
    (place / "plan.toml").write_text(
        f'model = "text.h5"\ntargets = ["{TARGET}"]\nrecipes = ["float32"]\n'
    )
    return ["run", str(place / "plan.toml"), "-o", str(place / "out")], 3, "text.h5"


def plan_with_a_nul_in_a_path(place):
    text = 'model = "tiny.keras"\ntargets = ["a\\u0000/b.toml"]\nrecipes = ["int8"]\n'
    (place / "plan.toml").write_text(text)
    return ["run", str(place / "plan.toml"), "-o", str(place / "out")], 2, "no such path"


def plan_with_a_misspelt_runner(place):
    text = f'model = "tiny.keras"\ntargets = ["{TARGET}"]\nrecipes = ["int8"]\nrunner = "x"\n'
    (place / "plan.toml").write_text(text)
    return ["run", str(place / "plan.toml"), "-o", str(place / "out")], 2, "no runner has the id"


def code_that_exits(place):
    (place / "rows.py").write_text("import sys\ndef rows():\n    sys.exit(3)\n    yield\n")
    (place / "code.toml").write_text('source = "python"\npath = "rows.py:rows"\n')
    data = ["--calibration", str(place / "code.toml"), "--allow-code"]
    return pack(place, "tiny.keras", *data), 7, "SystemExit"


CASES = (
    missing_model, empty_model, truncated_model, text_as_model, folder_as_model,
    unknown_model_type, damaged_weights, lambda_layer, unknown_target, unknown_recipe,
    broken_target_file, unknown_key_in_recipe, no_calibration, scheme_that_the_runtime_refuses,
    missing_data_description, missing_data_file, data_without_that_key, data_of_wrong_shape,
    data_with_nan, empty_calibration, pickled_data, data_that_is_no_archive,
    labels_of_another_length, label_out_of_range, overlapping_sets, unknown_metric,
    python_data_without_the_flag, unknown_key_in_data, unwritable_output,
    output_where_no_folder_can_be, output_that_is_empty, report_that_is_nameless,
    demo_that_is_nameless,
    inspect_of_text, inspect_of_nothing, inspect_of_a_folder, measure_of_nothing,
    measure_of_garbage, measure_of_an_empty_folder, unknown_device, report_of_nothing,
    report_of_a_broken_record, inputs_that_are_cut_short, inputs_that_are_empty, plan_with_a_typo,
    plan_of_a_broken_model, plan_with_a_nul_in_a_path, plan_with_a_misspelt_runner, code_that_exits,
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_bad_input_gives_one_line_and_its_code(case, place, capfd):
    argv, code, words = case(place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    assert run(argv) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in captured.err.partition("error: ")[2]
    assert "Traceback" not in captured.err
    after = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    assert after == before


def test_a_disk_that_fills_up_leaves_no_half_written_file(place):
    """A file size limit stands in for the full disk: the write fails in the middle of a file."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from edgepack.files import write_bytes\nfrom edgepack.errors import SpecError\n"
        "from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_bytes(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except SpecError as error:\n    print(error.message)\n"
    )
    path = place / "out" / "big.bin"
    argv = [sys.executable, "-c", code, str(path)]
    found = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert f"cannot write {path}" in found.stdout
    assert list(path.parent.iterdir()) == []
