"""What comes from outside is data: nothing of it runs, and nothing of it is larger than it says."""

import ast
import io
import json
import os
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from research import config as configuration
from research import npz
from research.config import default_config
from research.data import sources
from research.data.images import read_image
from research.errors import UserError

FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__", "literal_eval", "os.system", "os.popen"}


def test_no_module_can_run_what_it_reads():
    """No pickle under any name, no eval or exec, no shell; arrays are read without objects."""
    for path in sorted((ROOT / "research").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").partition(".")[0]]
            assert not FORBIDDEN & {*names}, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in CALLS, (path, called)
                keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert keywords.get("allow_pickle", "False") == "False", path
                assert keywords.get("shell", "False") == "False", path
                if called in ("np.load", "np.lib.format.read_array", "numpy.load"):
                    assert keywords["allow_pickle"] == "False", path


class Evil:
    def __reduce__(self):
        return os._exit, (66,)


def test_pickles_in_an_npz_are_refused_unread(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.array([Evil()], object), y=np.zeros(1, int))
    with pytest.raises(ValueError, match="holds objects"):
        npz.load(path, 10**9)


def member(shape: str, data: bytes, dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (member("(1000000000000,)", b"abc"), "says it has shape"),
        (member("(3, -1)", b"abc"), "says it has shape"),
        (member("(2,)", b"abc"), "says it has shape"),
        (member("(20000000,)", bytes(20_000_000)), "allowed: 1000000"),
        (member("(1,)", b"a" * 8, "|O"), "holds objects"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "format"),
        (b"junk", r"\w"),
        (b"", r"\w"),
    ],
)
def test_arrays_that_lie_or_swell_are_refused_before_they_are_read(tmp_path, content, message):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(ValueError, match=message):
        npz.load(path, 10**6)
    config = default_config().data
    config.update({"name": "npz", "path": str(path)})
    with pytest.raises(UserError):
        sources.load(config)


def test_a_zip_that_lies_about_its_members_is_refused(tmp_path):
    """It says 9 bytes more, or less, than there are."""
    path = tmp_path / "data.npz"
    np.savez(path, x=np.arange(100, dtype=np.uint8))
    whole = path.read_bytes()
    size = zipfile.ZipFile(io.BytesIO(whole)).infolist()[0].file_size
    for claimed in (size + 9, size - 9, 2**31):
        path.write_bytes(whole.replace(struct.pack("<I", size), struct.pack("<I", claimed)))
        with pytest.raises(ValueError):
            npz.load(path, 10**6)


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(name, body):
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("image", "size", "message"),
    [
        (png(60_000, 60_000, bytes(1000)), 0, "too many|bomb"),  # gigabytes, in 70 bytes
        (png(2**31 - 1, 2**31 - 1, b""), 0, "too many|not a readable"),
        (png(100, 100, bytes(50)), 0, "not a readable image"),  # says more than it has
        (png(1, 40_000, bytes(80_000)), 512, "long and thin"),  # 512 x 20 million once resized
    ],
)
def test_images_that_lie_or_swell_are_refused(image, size, message):
    with pytest.raises(UserError, match=message):
        read_image(image, "image 5", size)


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            pixels = np.full((4, 4), number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    config = default_config().data
    config.update({"name": "folder", "path": str(tmp_path)})
    assert len(sources.load(config).train) == 10
    os.mkfifo(tmp_path / "data.npz")
    config.update({"name": "npz", "path": str(tmp_path / "data.npz")})
    with pytest.raises(UserError, match="not a file"):
        sources.load(config)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"model": ' * 5000, '{"seed": ' + "[" * 600 + "]" * 600 + "}"]
)
def test_deep_json_is_refused(text):
    with pytest.raises(UserError):
        configuration.from_json(text, "config.json")


def test_a_config_from_a_run_folder_cannot_name_what_is_private_or_elsewhere():
    """Names without a dot are looked up among a module's own public functions, and nowhere else.

    Dotted ones are refused while the file is read.
    """
    from research.training import setup

    for name in ("os.system", "../evil", "os:system"):
        text = json.dumps({"model": {"activation": name}})
        with pytest.raises(UserError, match="would import code"):
            configuration.from_json(text, "config.json")
    for name in ("__builtins__", "_standard", "jax", "__class__"):
        values = {"model": {"activation": name}, "data": {"name": "moons"}}
        config = configuration.from_json(json.dumps(values), "config.json")
        with pytest.raises(UserError, match="is unknown"):
            setup.from_config(config)
    assert "evil" not in sys.modules
