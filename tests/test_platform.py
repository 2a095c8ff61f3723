"""What is asked of the compiler."""

import types

import jax
import pytest

from research import platform


def test_the_compiler_knows_the_options_of_loops_on_gpus(monkeypatch):
    """Told on any platform: it refuses what it does not know. There is no GPU here."""
    assert platform.loop_options() == {} or "gpu" in jax.default_backend()
    client = types.SimpleNamespace(platform_version="PJRT C API\ncuda 13000")
    with monkeypatch.context() as patched:
        patched.setattr(jax, "local_devices", lambda: [types.SimpleNamespace(client=client)])
        patched.delenv("XLA_FLAGS", raising=False)
        options = platform.loop_options()
        patched.setenv("XLA_FLAGS", "--xla_gpu_enable_command_buffer=FUSION")
        assert platform.loop_options() == {}
    lowered = jax.jit(lambda x: x + 1).lower(1.0)
    assert options and lowered.compile(options)(1.0) == 2
    (flag,) = options
    with pytest.raises(jax.errors.JaxRuntimeError, match="not a valid enum value"):
        lowered.compile({flag: options[flag] + ",UNKNOWN"})
