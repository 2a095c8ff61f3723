"""Start N processes of one run on this host.

    python launch/local.py -n 2 -- python -m research.main --config=configs/bn_adam.py

Process 0 has the terminal; lines of the others begin with their numbers. Signals go on to all. The
exit code is the worst of theirs; when one ends badly and the others do not follow, they are ended.
`--cpu-devices 2` gives each so many virtual devices, to try a program without accelerators. With
GPUs, let each process see its own: `CUDA_VISIBLE_DEVICES` is set to its number by `--one-gpu-each`.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

_GRACE = 20  # seconds that the others have after one ended badly, before they are ended


def main() -> int:
    """Run the processes to their end."""
    arguments = _arguments()
    port = arguments.port or _free_port()
    processes: list[subprocess.Popen] = []
    received: list[int] = []  # from before the first process starts: none is left behind
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(signal_number, lambda number, _: received.append(number))
    for number in range(arguments.n):
        environment = environment_of(number, arguments, port)
        if arguments.dry_run:
            ours = {name: environment[name] for name in environment if name not in os.environ}
            settings = [f"{name}={value}" for name, value in ours.items()]
            print(shlex.join(["env", *settings, *arguments.command]))
            continue
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if number else {}
        # Sessions of their own: a Ctrl-C of the terminal comes through us, once.
        try:
            process = subprocess.Popen(
                arguments.command, env=environment, start_new_session=True, text=True, **piped
            )
        except OSError as error:  # of the first: nothing was started
            print(f"error: {arguments.command[0]}: {error.strerror}", file=sys.stderr)
            return 2
        processes.append(process)
        if number:
            threading.Thread(target=_prefixed, args=(number, process), daemon=True).start()
    return _worst(processes, received)


def environment_of(number: int, arguments, port: int) -> dict[str, str]:
    """Return what process `number` is told: see research/platform.py."""
    environment = {
        **os.environ,
        "ONESTEP_COORDINATOR": f"127.0.0.1:{port}",
        "ONESTEP_PROCESSES": str(arguments.n),
        "ONESTEP_PROCESS": str(number),
    }
    if arguments.cpu_devices:
        environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(arguments.cpu_devices)}
    if arguments.one_gpu_each:
        environment["CUDA_VISIBLE_DEVICES"] = str(number)
    return environment


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], usage="local.py -n N [options] -- COMMAND..."
    )
    parser.add_argument("-n", type=_positive, required=True, help="processes")
    parser.add_argument("--cpu-devices", type=_positive, help="virtual devices of each")
    parser.add_argument("--one-gpu-each", action="store_true", help="process i sees GPU i alone")
    parser.add_argument("--port", type=_positive, help="of process 0; default: a free one")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and end")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- python -m research.main ...")
    arguments = parser.parse_args()
    arguments.command = arguments.command[arguments.command[:1] == ["--"] :]
    if not arguments.command:
        parser.error("no command after --")
    return arguments


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number (allowed: at least 1)")
    return int(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _prefixed(number: int, process: subprocess.Popen) -> None:
    for line in process.stdout:
        print(f"[{number}] {line}", end="", file=sys.stderr, flush=True)


def _signal(processes: list[subprocess.Popen], signal_number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal_number)


def _worst(processes: list[subprocess.Popen], received: list[int]) -> int:
    """Wait for all, and forward signals; killed counts as 128 + signal, as in shells."""
    deadline = None
    while None in (codes := [process.poll() for process in processes]):
        while received:
            _signal(processes, received.pop(0))
        if deadline is None and any(codes):
            deadline = time.monotonic() + _GRACE
            for number, code in enumerate(codes):
                if (code or 0) < 0:
                    name = signal.Signals(-code).name
                    print(f"process {number} was ended by {name}", file=sys.stderr, flush=True)
        if deadline is not None and time.monotonic() > deadline:
            _signal(processes, signal.SIGKILL)
        time.sleep(0.05)
    return max((128 - code if code < 0 else code for code in codes), default=0)


if __name__ == "__main__":
    sys.exit(main())
