"""Ask for the machine's memory and devices, and set what jax needs before it compiles."""

import os
import sys
import threading
from pathlib import Path

from research import heartbeat
from research.errors import UserError

# Compiler options for a program that runs once: one that draws weights takes a quarter of the time.
QUICKLY = {"xla_backend_optimization_level": 1}


def loop_options() -> dict[str, str]:
    """Return compiler options for a program that is a loop of a traced number of steps.

    On an NVIDIA GPU the whole loop becomes one CUDA graph, if XLA can put all operations of a step
    into one. Otherwise the host starts each kernel, and asks the device after each step whether
    there is another one. The kinds of operations are XLA's default list, as of jax 0.11, and WHILE:
    an option cannot add to the list. There are no options elsewhere, or if XLA_FLAGS set this flag.
    """
    import jax

    flag = "xla_gpu_enable_command_buffer"
    on_cuda = "cuda" in jax.local_devices()[0].client.platform_version
    if not on_cuda or flag in os.environ.get("XLA_FLAGS", ""):
        return {}
    kinds = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
    return {flag: kinds}


def physical_memory() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory() -> int:
    """Return the bytes that arrays on all local devices may take together."""
    import jax

    limits = [device.memory_stats() or {} for device in jax.local_devices()]
    return sum(limit.get("bytes_limit", 0) for limit in limits) or physical_memory()


def enable_compilation_cache() -> None:
    """Keep compiled programs on disk, so that the second start of anything is quick.

    JAX_COMPILATION_CACHE_DIR, if the user has set it, names the folder.
    """
    import jax

    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or f"{root}/onestep/xla").expanduser()
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


# Variables that launch/ sets for each process of a run.
COORDINATOR, PROCESSES, PROCESS = "ONESTEP_COORDINATOR", "ONESTEP_PROCESSES", "ONESTEP_PROCESS"
CLUSTER = "ONESTEP_CLUSTER"  # "auto": jax finds the processes itself, as on Cloud TPU pods
HEARTBEAT = "ONESTEP_HEARTBEAT"  # seconds after which a silent process counts as dead
TIMEOUT = "ONESTEP_TIMEOUT"  # seconds to wait for all processes at the start


def join_processes() -> None:
    """Join the other processes of this run, if a launcher or a cluster has started any; print them.

    Call this before anything touches a device.

    Raises:
      UserError: variables that are missing or contradict each other, processes that do not come,
        or have different numbers of devices.
    """
    address = _address()
    if address is None:
        check_devices()
        return
    import jax

    seconds = {name: _whole_number(name, 1, default) for name, default in _SECONDS.items()}
    # jax's own timeouts abort with a page of C++: these come first.
    patience = threading.Timer(seconds[TIMEOUT], _give_up, [seconds[TIMEOUT]])
    patience.start()
    try:
        jax.distributed.initialize(
            **address,
            heartbeat_timeout_seconds=seconds[HEARTBEAT] + 60,
            initialization_timeout=seconds[TIMEOUT] + 60,
        )
    except (RuntimeError, ValueError) as error:
        what = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"the processes of this run do not find each other: {what}") from None
    finally:
        patience.cancel()
    process, processes = jax.process_index(), jax.process_count()
    heartbeat.watch(process, processes, seconds[HEARTBEAT])
    here, all_devices = jax.local_device_count(), jax.device_count()
    print(
        f"process {process} of {processes}: {here} local devices of {all_devices} "
        f"({jax.default_backend()})",
        flush=True,
    )
    if processes != address.get("num_processes", processes) or here * processes != all_devices:
        raise UserError(
            f"{processes} processes share {all_devices} devices unequally: process {process} has "
            f"{here} (allowed: as many in each)"
        )


def check_devices() -> None:
    """Find the devices of this process.

    Raises:
      UserError: jax does not find the requested platform.
    """
    import jax

    try:
        jax.local_devices()
    except (RuntimeError, AssertionError, ValueError) as error:
        what = (str(error).strip().splitlines() or ["the platform is not installed"])[0]
        asked = os.environ.get("JAX_PLATFORMS")
        raise UserError(f"no devices (JAX_PLATFORMS = {asked!r}): {what}") from None


_SECONDS = {HEARTBEAT: 30, TIMEOUT: 300}


def _give_up(seconds: int) -> None:
    print(
        f"error: the processes of this run do not find each other: waited {seconds} s ({TIMEOUT}) "
        f"for all {os.environ.get(PROCESSES, '')} at {os.environ.get(COORDINATOR, 'the cluster')}",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def _address() -> dict | None:
    """Return arguments for `jax.distributed.initialize`; None if this process is alone."""
    names = (COORDINATOR, PROCESSES, PROCESS)
    missing = [name for name in names if not os.environ.get(name)]
    if len(missing) < len(names):
        if missing:
            raise UserError(f"{' and '.join(missing)} not set, but others of {', '.join(names)}")
        processes = _whole_number(PROCESSES, 1)
        host, _, port = os.environ[COORDINATOR].rpartition(":")
        if not (host and port.isdecimal()):
            raise UserError(f"{COORDINATOR} = {os.environ[COORDINATOR]!r} (allowed: host:port)")
        return {
            "coordinator_address": os.environ[COORDINATOR],
            "num_processes": processes,
            "process_id": _whole_number(PROCESS, 0, below=processes),
        }
    if os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        # Each task would train alone. jax's own way for Slurm takes one device for each task.
        raise UserError(
            f"srun started {os.environ['SLURM_STEP_NUM_TASKS']} tasks that do not know of each "
            f"other: start them by launch/slurm.sbatch, or set {', '.join(names)}"
        )
    cluster = os.environ.get(CLUSTER, "")
    if cluster not in ("", "auto"):  # each host would train alone
        raise UserError(f"{CLUSTER} = {cluster!r} (allowed: auto)")
    return {} if cluster else None


def _whole_number(name: str, low: int, default: int | None = None, below: int = 2**31) -> int:
    value = os.environ.get(name, default)
    try:
        number = int(value)
    except ValueError:
        number = low - 1
    if not low <= number < below:
        raise UserError(f"{name} = {value!r} (allowed: whole numbers from {low} to {below - 1})")
    return number
