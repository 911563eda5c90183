import hashlib
import tracemalloc
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgepack.errors import DataError
from edgepack.model.data import open_data, overlap
from edgepack.model.sources import wav_folder
from edgepack.spec.data import Dataset, Preprocess


def described(folder: Path, source: str, path: str | None = None, **rest):
    return Dataset(id="set", source=source, folder=str(folder), path=path, **rest)


def saved(folder: Path, compressed: bool = False, **arrays) -> Path:
    (np.savez_compressed if compressed else np.savez)(folder / "a.npz", **arrays)
    return folder / "a.npz"


def everything(data, size=7):
    batches = list(data.batches(size))
    y = [b.y for b in batches if b.y is not None]
    columns = zip(*(b.x for b in batches), strict=True)
    return [np.concatenate(c) for c in columns], np.concatenate(y) if y else None


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_rows_are_those_of_numpy(tmp_path, compressed):
    x = np.arange(50 * 6, dtype=np.uint8).reshape(50, 2, 3)
    y = np.arange(50) % 4
    saved(tmp_path, compressed, x=x, y=y)
    data = open_data(described(tmp_path, "npz", "a.npz", y="y", indices=(49, 3, 4, 20)))
    (found,), labels = everything(data, 3)
    np.testing.assert_array_equal(found, x[[3, 4, 20, 49]].astype(np.float32))
    np.testing.assert_array_equal(labels, y[[3, 4, 20, 49]])
    np.testing.assert_array_equal(data.labels(), labels)
    assert (len(data), data.x_shapes, data.x_dtypes) == (4, ((2, 3),), ("float32",))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 50),
    st.sampled_from(["u1", "<f4", ">i2", "?"]),
    st.booleans(),
    st.data(),
)
def test_any_selection_of_any_array(tmp_path_factory, rows, size, dtype, fortran, draw):
    folder = tmp_path_factory.mktemp("npz")
    x = (np.arange(rows * 4).reshape(rows, 4) % 100).astype(dtype)
    saved(folder, draw.draw(st.booleans()), x=np.asfortranarray(x) if fortran else x)
    chosen = draw.draw(st.sets(st.integers(0, rows - 1), min_size=1))
    data = open_data(described(folder, "npz", "a.npz", indices=tuple(chosen)))
    (found,), labels = everything(data, size)
    np.testing.assert_array_equal(found, x[sorted(chosen)].astype(np.float32))
    assert labels is None
    assert all(len(batch.x[0]) <= size for batch in data.batches(size))


def test_reading_needs_no_more_memory_for_ten_times_the_rows(tmp_path):
    def peak(rows: int) -> int:
        path = tmp_path / str(rows)
        path.mkdir()
        saved(path, True, x=np.zeros((rows, 64, 64), np.uint8))
        data = open_data(described(path, "npz", "a.npz"))
        tracemalloc.start()
        for _ in data.batches(16):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(1000), peak(10000)
    assert many < 1.5 * few


def test_npz_several_inputs_and_the_only_array(tmp_path):
    saved(tmp_path, a=np.ones((3, 2)), b=np.zeros((3, 4)))
    data = open_data(described(tmp_path, "npz", "a.npz", x=("b", "a")))
    assert data.x_shapes == ((4,), (2,))
    saved(tmp_path, only=np.ones((3, 2)))
    assert open_data(described(tmp_path, "npz", "a.npz")).x_shapes == ((2,),)


def test_npy_file_with_labels_beside_it_and_folder(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(3, 2))
    np.save(tmp_path / "labels.npy", np.array([1, 0, 1]))
    file = open_data(described(tmp_path, "npy", "x.npy", y="labels.npy"))
    folder = open_data(described(tmp_path, "npy", ".", y="labels"))
    np.testing.assert_array_equal(everything(file)[0][0], everything(folder)[0][0])
    assert file.digest == folder.digest
    assert file.labels().tolist() == [1, 0, 1]
    assert overlap(file, folder) == 3
    digest = hashlib.sha256((tmp_path / "x.npy").read_bytes()).hexdigest()
    assert len(open_data(described(tmp_path, "npy", "x.npy", sha256=digest))) == 3
    assert file.table.digest() == digest
    assert folder.table.digest() != digest
    assert open_data(described(tmp_path, "npy", ".")).table.digest() == digest


def test_images_by_folder(tmp_path):
    for name, colour in (("cat", (255, 0, 0)), ("ant", (0, 0, 255))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (6, 4), colour).save(tmp_path / name / "1.png")
    pre = Preprocess(size=(2, 3), channels="bgr", scale=1 / 255)
    data = open_data(described(tmp_path, "image-folder", ".", preprocess=pre))
    (x,), y = everything(data)
    assert y.tolist() == [0, 1] == data.labels().tolist()
    assert x.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(x[:, 0, 0], [[1, 0, 0], [0, 0, 1]], atol=1e-6)
    assert len(data.table.digest()) == 64


def test_flat_gray_images_and_their_sizes(tmp_path):
    Image.new("L", (4, 4), 7).save(tmp_path / "1.png")
    data = open_data(described(tmp_path, "image-folder", "."))
    assert data.x_shapes == ((4, 4, 1),)
    assert data.labels() is None
    assert next(data.batches()).truth.shape == (1, 4, 4, 1)
    Image.new("L", (5, 4), 7).save(tmp_path / "2.png")
    mixed = open_data(described(tmp_path, "image-folder", "."))
    with pytest.raises(DataError, match="5"):
        everything(mixed)
    (tmp_path / "3.png").write_bytes(b"no picture")
    bad = open_data(described(tmp_path, "image-folder", ".", preprocess=Preprocess(size=(4, 4))))
    with pytest.raises(DataError, match=r"3\.png: cannot be decoded"):
        everything(bad)


def test_csv_features_and_word_labels(tmp_path):
    text = "a,b,kind\n1,2,dog\n\n3, 4,cat\n5,6,dog\n"
    (tmp_path / "t.csv").write_text(text)
    data = open_data(described(tmp_path, "csv", "t.csv", y="kind"))
    (x,), y = everything(data, 2)
    assert x.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert y.tolist() == [1, 0, 1] == data.labels().tolist()
    one = open_data(described(tmp_path, "csv", "t.csv", x="b", indices=(1,)))
    assert everything(one)[0][0].tolist() == [[4]]
    assert one.labels() is None
    assert one.table.digest() == hashlib.sha256(text.encode()).hexdigest()


def test_csv_columns_of_one_name(tmp_path):
    (tmp_path / "t.csv").write_text("a,a,y\n1,2,0\n")
    with pytest.raises(DataError, match="has 2 columns 'a'"):
        open_data(described(tmp_path, "csv", "t.csv", y="y"))


def test_csv_read_in_part(tmp_path):
    (tmp_path / "t.csv").write_text("a\n" + "\n".join(map(str, range(9))))
    data = open_data(described(tmp_path, "csv", "t.csv", indices=(2, 5)))
    assert everything(data, 1)[0][0].ravel().tolist() == [2, 5]
    assert [len(batch.x[0]) for batch in data.batches(3)] == [2]


def test_csv_number_labels(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,2\n3,0\n")
    assert open_data(described(tmp_path, "csv", "t.csv", y="y")).labels().dtype == np.int64
    (tmp_path / "t.csv").write_text("a,y\n1,2.5\n3,0\n")
    assert open_data(described(tmp_path, "csv", "t.csv", y="y")).labels().tolist() == [2.5, 0]


def tone(path: Path, width: int, content: bytes, channels: int = 1, rate: int = 8000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)


@pytest.mark.parametrize(
    ("width", "content"),
    [
        (1, bytes([0, 128, 192])),
        (2, np.array([-(2**15), 0, 2**14], "<i2").tobytes()),
        (3, b"\0\0\x80" + b"\0\0\0" + b"\0\0\x40"),
        (4, np.array([-(2**31), 0, 2**30], "<i4").tobytes()),
    ],
)
def test_wav_widths_mean_the_same(tmp_path, width, content):
    tone(tmp_path / "t.wav", width, content)
    sound, rate = wav_folder.decode(tmp_path / "t.wav")
    assert sound.tolist() == [-1, 0, 0.5]
    assert rate == 8000


def test_wav_folder_crops_and_pads(tmp_path):
    for name, length in (("no", 2), ("yes", 6)):
        (tmp_path / name).mkdir()
        tone(tmp_path / name / "a.wav", 2, np.full(length, 2**14, "<i2").tobytes())
    data = open_data(described(tmp_path, "wav-folder", ".", preprocess=Preprocess(size=(4,))))
    (x,), y = everything(data)
    assert x.tolist() == [[0.5, 0.5, 0, 0], [0.5] * 4]
    assert y.tolist() == [0, 1]
    stereo = tmp_path / "stereo"
    stereo.mkdir()
    tone(stereo / "s.wav", 2, np.zeros(8, "<i2").tobytes(), channels=2)
    assert open_data(described(stereo, "wav-folder", ".")).x_shapes == ((4, 2),)


def test_wav_rates_and_damage(tmp_path):
    tone(tmp_path / "a.wav", 2, b"\0\0", rate=8000)
    tone(tmp_path / "b.wav", 2, b"\0\0", rate=16000)
    with pytest.raises(DataError, match="different rates"):
        everything(open_data(described(tmp_path, "wav-folder", ".")))
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match="not a PCM WAV"):
        open_data(described(tmp_path, "wav-folder", "."))


def test_sklearn_sets():
    digits = open_data(Dataset(id="d", source="sklearn", path="digits", count=10, seed=3))
    again = open_data(Dataset(id="d", source="sklearn", path="digits", count=10, seed=3))
    other = open_data(Dataset(id="d", source="sklearn", path="digits", count=10, seed=4))
    assert digits.x_shapes == ((8, 8, 1),)
    assert digits.digest == again.digest != other.digest
    assert open_data(Dataset(id="i", source="sklearn", path="iris")).x_shapes == ((4,),)
    assert len(digits.table.digest()) == 64
    with pytest.raises(DataError) as error:
        open_data(Dataset(id="i", source="sklearn", path="digit"))
    assert "digits" in error.value.hint


CODE = """
import numpy as np
def labelled():
    for n in range(5):
        yield [np.full(3, n), np.zeros(2)], n % 2
def bare():
    yield from np.eye(4)
def ragged():
    yield np.zeros(2)
    yield np.zeros(3)
def words():
    yield "word"
def fails():
    yield np.zeros(2)
    raise ValueError("no more")
nothing = 3
"""


def test_python_function(tmp_path):
    (tmp_path / "f.py").write_text(CODE)

    def opened(name, **rest):
        spec = described(tmp_path, "python", f"f.py:{name}", **rest)
        return open_data(spec, allow_code=True)

    data = opened("labelled", indices=(1, 4))
    (x, _), y = everything(data, 1)
    assert (x[:, 0].tolist(), y.tolist(), data.labels().tolist()) == ([1, 4], [1, 0], [1, 0])
    assert everything(opened("labelled"), 2)[1].tolist() == [0, 1, 0, 1, 0]
    assert opened("bare").labels() is None
    assert len(everything(opened("bare"), 4)[0][0]) == 4
    assert data.table.digest() == hashlib.sha256(CODE.encode()).hexdigest()
    for name, said in (
        ("ragged", "not like the first"),
        ("words", "not numbers"),
        ("fails", "no more"),
        ("nothing", "has no function"),
        ("absent", "has no function"),
    ):
        with pytest.raises(DataError, match=said):
            opened(name)
    with pytest.raises(DataError, match="not allowed") as error:
        open_data(described(tmp_path, "python", "f.py:bare"))
    assert "--allow-code" in error.value.hint
    (tmp_path / "f.py").write_text("import nonsense_module")
    with pytest.raises(DataError, match="nonsense_module"):
        opened("bare")
    with pytest.raises(DataError, match="names no function"):
        open_data(described(tmp_path, "python", "f.py"), allow_code=True)
    with pytest.raises(DataError, match="no such Python file"):
        open_data(described(tmp_path, "python", "g.py:f"), allow_code=True)
    (tmp_path / "f.txt").write_text("")
    with pytest.raises(DataError, match="not a Python file"):
        open_data(described(tmp_path, "python", "f.txt:f"), allow_code=True)


def test_what_user_code_prints_stays_off_stdout(tmp_path, capsys):
    (tmp_path / "f.py").write_text("print('hello')\ndef f():\n    yield [1.0]\n")
    open_data(described(tmp_path, "python", "f.py:f"), allow_code=True)
    assert capsys.readouterr().out == ""


def test_selecting_within_a_selection(tmp_path):
    saved(tmp_path, x=np.arange(10.0)[:, None])
    data = open_data(described(tmp_path, "npz", "a.npz", indices=(2, 4, 6, 8)))
    assert everything(data.select([3, 0]))[0][0].ravel().tolist() == [2, 8]
    with pytest.raises(DataError, match="out of range"):
        data.select([4])
    with pytest.raises(DataError, match="batch of 0"):
        next(data.batches(0))


def test_overlap_sees_through_different_preprocessing(tmp_path):
    saved(tmp_path, x=np.arange(20, dtype=np.uint8)[:, None])
    a = open_data(described(tmp_path, "npz", "a.npz", indices=tuple(range(12))))
    scaled = Preprocess(scale=0.37)
    b = open_data(
        described(tmp_path, "npz", "a.npz", indices=tuple(range(9, 20)), preprocess=scaled)
    )
    assert overlap(a, b) == 3
    c = open_data(described(tmp_path, "npz", "a.npz", indices=tuple(range(12, 20))))
    assert overlap(a, c) == 0


@pytest.mark.parametrize(
    ("arrays", "rest", "said", "hint"),
    [
        ({"x": [[1.0]], "y": [1]}, {"x": "X"}, "no array 'X'", "did you mean 'x'"),
        ({"a": [[1.0]], "b": [1]}, {}, "no array 'x'", "there: a, b"),
        ({"x": [[1.0]]}, {"y": "label"}, "no array 'label'", "there: x"),
        ({"x": [[1.0], [2.0]], "y": [1]}, {"y": "y"}, "'y' has 1 rows, 'x' has 2", "labels"),
        ({"x": [[np.nan]]}, {}, "NaN or infinite in sample 0", "sample"),
        ({"x": [[1.0], [np.inf]]}, {"indices": (1,)}, "sample 1", ""),
        ({"x": [[1.0]], "y": [np.nan]}, {"y": "y"}, "labels are NaN", ""),
        ({"x": [[1e30]]}, {"preprocess": Preprocess(scale=1e30)}, "as float32 are NaN", ""),
        ({"x": [[1e6]]}, {"preprocess": Preprocess(dtype="float16")}, "as float16 are NaN", ""),
        ({"x": np.zeros((0, 2))}, {}, "holds no samples", "at least one"),
        ({"x": [["word"]]}, {}, "not numbers", ""),
        ({"x": 3.0}, {}, "single value", ""),
        ({"x": [[1.0]]}, {"indices": (1,)}, "index 1 is out of range", "0 to 0"),
        ({"x": [[1.0]]}, {"indices": (-1,)}, "index -1 is out of range", ""),
        ({"x": [[1.0], [2.0]]}, {"indices": (1, 1)}, "chosen twice", ""),
        ({"x": [[1.0]]}, {"indices": ()}, "no indices", ""),
        ({"x": [[1.0]]}, {"count": -1}, "count is -1", ""),
        ({"x": [[1.0]]}, {"count": 2}, "holds 1", "at most 1"),
        ({"x": [[1.0]]}, {"sha256": "00" * 32}, "has changed", ""),
        ({"x": [[1.0, 2, 3]]}, {"preprocess": Preprocess(scale=(1, 2))}, "scale has 2", "channel"),
        ({"x": [[1.0]]}, {"preprocess": Preprocess(size=(2, 2))}, "are for images", ""),
        ({"x": np.ones((1, 2, 2))}, {"preprocess": Preprocess(size=(2, 2, 2))}, "not .height", ""),
        ({"x": [1.0]}, {"preprocess": Preprocess(size=(2,))}, "single number", ""),
    ],
)
def test_what_is_wrong_is_said(tmp_path, arrays, rest, said, hint):
    saved(tmp_path, **{name: np.asarray(value) for name, value in arrays.items()})
    with pytest.raises(DataError, match=said) as error:
        everything(open_data(described(tmp_path, "npz", "a.npz", **rest)))
    assert hint in error.value.hint
    assert "\n" not in error.value.message


def test_pickled_objects_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        open_data(described(tmp_path, "npy", "x.npy"))


def test_select_refuses_what_is_no_index(tmp_path):
    saved(tmp_path, x=np.ones((3, 1)))
    with pytest.raises(DataError, match="whole numbers"):
        open_data(described(tmp_path, "npz", "a.npz")).select([0.5])


def test_files_that_are_not_there_or_not_that(tmp_path):
    for source, path, said in (
        ("npz", None, "needs a path"),
        ("npz", "a.npz", "no such file"),
        ("npz", ".", "needs a file"),
        ("image-folder", "t.csv", "needs a folder"),
        ("npz", "t.csv", "damaged or not"),
        ("npy", "t.csv", "not a NumPy array"),
        ("csv", "empty.csv", "is empty"),
        ("csv", "head.csv", "no samples"),
        ("csv", "ragged.csv", "line 3 has 1 cells"),
        ("csv", "words.csv", "line 2: 'b' is not a number"),
        ("csv", "binary.csv", "not a CSV"),
        ("npy", ".", "no such file"),
        ("image-folder", ".", "holds no file"),
    ):
        (tmp_path / "t.csv").write_text("a\n1\n")
        (tmp_path / "empty.csv").write_text("")
        (tmp_path / "head.csv").write_text("a,b\n")
        (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n")
        (tmp_path / "words.csv").write_text("a,b\n1,b\n")
        (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(DataError, match=said):
            open_data(described(tmp_path, source, path))


def test_csv_column_names(tmp_path):
    (tmp_path / "t.csv").write_text("alpha,b\n1,2\n")
    with pytest.raises(DataError) as error:
        open_data(described(tmp_path, "csv", "t.csv", x="alfa"))
    assert error.value.hint == "did you mean 'alpha'?"
    with pytest.raises(DataError) as error:
        open_data(described(tmp_path, "csv", "t.csv", y="zzzzz"))
    assert error.value.hint == "there: alpha, b"


def test_x_is_not_for_a_single_npy(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    with pytest.raises(DataError, match="folder of arrays"):
        open_data(described(tmp_path, "npy", "x.npy", x="x"))


def test_a_truncated_array_is_said(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((100, 4)))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-40])
    with pytest.raises(DataError, match=r"x\.npy ends early, in row 98"):
        everything(open_data(described(tmp_path, "npy", "x.npy")))


def test_a_header_that_claims_more_rows_is_said(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 4)))
    content = (tmp_path / "x.npy").read_bytes().replace(b"(3, 4)", b"(9, 4)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(DataError, match="ends early, in row 3"):
        everything(open_data(described(tmp_path, "npz", "a.npz")))


def test_a_damaged_compressed_member_is_said(tmp_path):
    saved(tmp_path, True, x=np.random.default_rng(0).random((200, 100)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[5000:5400] = bytes(400)
    (tmp_path / "a.npz").write_bytes(bytes(content))
    with pytest.raises(DataError, match="is damaged"):
        everything(open_data(described(tmp_path, "npz", "a.npz")))
