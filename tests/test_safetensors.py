"""Our .safetensors files against the library that the format comes from; files that lie."""

import json

import hypothesis
import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import load, save

from research import safetensors

SETTINGS = {"deadline": None, "suppress_health_check": list(hypothesis.HealthCheck)}
DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
ARRAYS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9).filter(
        lambda name: name != "__metadata__"
    ),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, min_side=0))
    ),
    max_size=5,
)


def content(arrays) -> bytes:
    return b"".join(bytes(piece) for piece in safetensors.written(arrays))


def read(data: bytes):
    return safetensors.read(np.frombuffer(data, np.uint8))


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@hypothesis.settings(max_examples=200, **SETTINGS)
@hypothesis.given(ARRAYS)
def test_what_we_write_the_library_reads_and_the_other_way_round(arrays):
    assert int.from_bytes(content(arrays)[:8], "little") % 8 == 0
    assert_same(load(content(arrays)), arrays)
    assert_same(read(content(arrays)), arrays)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    theirs = {name: array for name, array in contiguous.items() if arrays[name].ndim}
    assert_same(read(save(theirs, {"format": "np"})), theirs)


def test_bfloat16_and_arrays_that_are_not_contiguous():
    arrays = {"a": np.arange(6, dtype=ml_dtypes.bfloat16), "b": np.arange(6).reshape(2, 3).T}
    assert_same(read(content(arrays)), arrays)
    with pytest.raises(TypeError, match="z has dtype complex64"):
        content({"z": np.zeros(2, np.complex64)})


def lying(**changes) -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    text = json.dumps({"x": entry}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"junk", bytes(8), b"\xff" * 8 + b"{}", (2).to_bytes(8, "little") + b"[]",
        (10**5).to_bytes(8, "little") + b"[" * 10**5,
        lying(shape=[3]), lying(shape=[10**12]), lying(shape=[-2]), lying(shape=[-1, -2]),
        lying(shape=[2.0]), lying(shape="2"), lying(shape=None), lying(data_offsets=[0, 9]),
        lying(data_offsets=[-8, 0]), lying(data_offsets=[8, 0]), lying(data_offsets=[4, 12]),
        lying(data_offsets=[0]), lying(dtype="F31"), lying(dtype=[]), lying(more=1),
    ],
)  # fmt: skip
def test_files_that_lie_are_refused(data):
    assert read(lying())["x"].tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"no whole \.safetensors file"):
        read(data)


@hypothesis.settings(max_examples=300, **SETTINGS)
@hypothesis.given(st.data())
def test_damaged_files_are_refused_or_hold_no_more_than_they_have(data):
    whole = bytearray(content({"a": np.arange(6, dtype=np.int32), "b": np.ones((2, 3))}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = read(cut)
    except ValueError:
        return
    assert all(array.nbytes <= len(cut) for array in found.values())
