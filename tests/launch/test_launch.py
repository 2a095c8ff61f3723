"""Launchers: real processes here; for clusters what can be told without one."""

import importlib.util
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from conftest import ROOT, command_line
from runs import one_line

from research import platform
from research.errors import UserError

LOCAL = [sys.executable, "launch/local.py"]
SHORT = ("--config=configs/bn_adam.py", "--config.batch_size=64", "--config.model.hidden=(16,)",
         "--config.optimizer.name=momentum", "--config.schedule.name=constant",
         "--config.duration=300 steps", "--config.checkpoint.every=100 steps",
         "--config.evaluate_every=50 steps", "--config.log_every=10 steps",
         "--config.compute.steps_per_dispatch=5")  # fmt: skip


def two(workdir, *flags) -> list[str]:
    run = command_line("main", *SHORT, f"--workdir={workdir}", *flags)
    return [*LOCAL, "-n", "2", "--cpu-devices", "2", "--", *run]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_two_processes_stop_at_one_step_and_one_process_goes_on(where, command, tmp_path):
    """Streamed from disk, each process reads rows of its own, and one reads all that they left."""
    data = ["--config.data.memory_mb=0", "--config.duration=150 steps"] * (where == "disk")
    total = 150 if data else 300
    process = subprocess.Popen(
        two(tmp_path / "run", *data),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while not metrics.exists() or metrics.read_text().count("\n") < 5:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "process 0 of 2: 2 local devices of 4 (cpu)" in out
    assert "[1] process 1 of 2: 2 local devices of 4 (cpu)" in err
    assert err.count("interrupted at step") == 1 and "Traceback" not in err
    stopped = lines(tmp_path / "run" / "history.jsonl")[-1]["step"]
    assert 0 < stopped < total and (tmp_path / "run" / "checkpoints" / str(stopped)).is_dir()
    resumed = command(
        "main", *SHORT, *data, f"--workdir={tmp_path / 'run'}", "--config.parallel.mode=shard_map"
    )
    assert resumed.returncode == 0 and f"at step {stopped}" in resumed.stdout, resumed.stderr
    assert "damaged" not in resumed.stderr
    whole = command("main", *SHORT, *data, f"--workdir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    found, wanted = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("run", "whole")
    )
    assert found["test_loss"] == pytest.approx(wanted["test_loss"], rel=1e-4)
    records = [lines(tmp_path / name / "metrics.jsonl") for name in ("run", "whole")]
    steps = [[(r["step"], r["split"]) for r in part] for part in records]
    assert steps[0] == steps[1]  # one writer: nothing twice


def test_a_mistake_is_told_once_and_is_the_exit_code(tmp_path):
    done = subprocess.run(
        two(tmp_path / "run", "--config.batch_size=66"), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "config.batch_size = 66 cannot be shared by 4 devices" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", ["checkpoint", "metrics"])
def test_what_process_0_cannot_write_ends_them_all(what, tmp_path):
    """With its line. A save is waited for by all; of metrics the others learn when it has ended."""
    run = two(tmp_path / "run", "--config.duration=9999999 steps")
    if what == "metrics":  # files of 8 KiB at most
        place = run.index("--") + 1
        run[place:place] = ["bash", "-c", 'ulimit -f 8; exec "$@"', "-"]
        run += ["--config.data.name=moons", "--config.batch_size=66"]  # no file of data
        run[run.index("-n") + 1] = "3"  # of whom two have to be told
    variables = {"ONESTEP_HEARTBEAT": "4", "JAX_ENABLE_COMPILATION_CACHE": "0"}
    process = subprocess.Popen(
        run, cwd=ROOT, env={**os.environ, **variables}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if what == "checkpoint":
        deadline = time.monotonic() + 200
        while not (tmp_path / "run" / "checkpoints" / "100").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        (tmp_path / "run").rename(tmp_path / "away")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2 and "Traceback" not in err and "SIG" not in err, err
    told = [line for line in err.splitlines() if "error: " in line]
    assert told[0].startswith("error: ")
    if what == "checkpoint":
        assert len(told) == 1 and "could not be saved: the folder is gone" in told[0]
    else:
        assert told[0].endswith("metrics.jsonl: File too large")
        wanted = [f"[{n}] error: process 0 of 3 ended with exit code 2" for n in (1, 2)]
        assert [line.partition(";")[0] for line in sorted(told[1:])] == wanted


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_process_is_named_and_the_others_end(frozen, tmp_path):
    port = _free_port()
    run = command_line("main", *SHORT, "--config.duration=9999999 steps", f"--workdir={tmp_path}")
    processes = []
    for number in range(2):
        variables = {"ONESTEP_COORDINATOR": f"127.0.0.1:{port}", "ONESTEP_PROCESSES": "2",
                     "ONESTEP_PROCESS": str(number), "ONESTEP_HEARTBEAT": "4",
                     "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}  # fmt: skip
        processes.append(
            subprocess.Popen(
                run, cwd=ROOT, env={**os.environ, **variables}, text=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    try:
        metrics = tmp_path / "metrics.jsonl"
        deadline = time.monotonic() + 200
        while not metrics.exists():
            assert time.monotonic() < deadline, "no metrics"
            assert all(process.poll() is None for process in processes)
            time.sleep(0.02)
        processes[frozen].send_signal(signal.SIGSTOP)
        other = processes[1 - frozen]
        _, err = other.communicate(timeout=60)
    finally:
        for process in processes:
            with process:
                process.kill()
    assert other.returncode == 1, err
    assert f"error: process {frozen} of 2 not heard of within 4 s" in err
    assert "Traceback" not in err and "Check failure" not in err


def test_processes_that_do_not_come_are_told(tmp_path):
    environment = {**os.environ, "ONESTEP_COORDINATOR": "127.0.0.1:29177", "ONESTEP_TIMEOUT": "3",
                   "ONESTEP_PROCESSES": "2", "ONESTEP_PROCESS": "0"}  # fmt: skip
    done = subprocess.run(
        command_line("main", *SHORT, f"--workdir={tmp_path}"),
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and not (tmp_path / "config.json").exists()
    assert "do not find each other: waited 3 s (ONESTEP_TIMEOUT) for all 2" in done.stderr


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ONESTEP_PROCESSES": "2"}, "ONESTEP_COORDINATOR and ONESTEP_PROCESS not set"),
        (
            {"ONESTEP_COORDINATOR": "x:1", "ONESTEP_PROCESSES": "2", "ONESTEP_PROCESS": "2"},
            "ONESTEP_PROCESS = '2' .allowed: whole numbers from 0 to 1",
        ),
        (
            {"ONESTEP_COORDINATOR": "x:1", "ONESTEP_PROCESSES": "two", "ONESTEP_PROCESS": "0"},
            "ONESTEP_PROCESSES = 'two'",
        ),
        (
            {"ONESTEP_COORDINATOR": "host", "ONESTEP_PROCESSES": "2", "ONESTEP_PROCESS": "0"},
            "ONESTEP_COORDINATOR = 'host' .allowed: host:port",
        ),
        ({"ONESTEP_CLUSTER": "yes"}, "ONESTEP_CLUSTER = 'yes' .allowed: auto"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "srun started 4 tasks .* launch/slurm.sbatch"),
    ],
)
def test_a_topology_that_cannot_be_is_refused(variables, words, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words):
        platform.join_processes()


def test_alone_nothing_is_joined(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    platform.join_processes()
    assert not jax.distributed.is_initialized()


KILL_1 = """
import os, signal, time
os.kill(os.getpid(), signal.SIGKILL) if os.environ["ONESTEP_PROCESS"] == "1" else time.sleep(1)
"""


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("import sys, os; sys.exit(3 * (os.environ['ONESTEP_PROCESS'] == '1'))", 3),
        (KILL_1, 128 + 9),
        ("pass", 0),
    ],
)
def test_the_exit_code_is_the_worst(program, code):
    run = [*LOCAL, "-n", "3", "--", sys.executable, "-c", program]
    done = subprocess.run(run, cwd=ROOT, timeout=60, capture_output=True, text=True)
    assert done.returncode == code
    assert ("process 1 was ended by SIGKILL" in done.stderr) == (code == 128 + 9)


def test_signals_go_on_to_all_and_output_has_its_process_before_it():
    program = (
        # Blocked, a signal that comes before the wait for it is kept until then.
        "import signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "print('ready', flush=True)\n"
        "if signal.sigtimedwait({signal.SIGTERM}, 60):\n"
        "    print('stopped', flush=True)\n"
        "    sys.exit(130)"
    )
    process = subprocess.Popen(
        [*LOCAL, "-n", "2", "--", sys.executable, "-c", program], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n" and process.stderr.readline() == "[1] ready\n"
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("stopped\n", "[1] stopped\n", 130)


def dry_run(*command: str, **variables: str) -> str:
    environment = {**os.environ, "DRY_RUN": "1", **variables}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_program_that_is_not_there_is_told():
    done = subprocess.run(
        [*LOCAL, "-n", "2", "--", "nosuch"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr == "error: nosuch: No such file or directory\n"
    done = subprocess.run([*LOCAL, "-n", "0", "--", "x"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "'0' is no whole number (allowed: at least 1)" in done.stderr


@pytest.mark.parametrize("asked", ["gpux", "cuda"])
def test_devices_that_are_not_there_are_told(asked, tmp_path):
    done = subprocess.run(
        command_line("main", *SHORT, f"--workdir={tmp_path / 'run'}"), cwd=ROOT, text=True,
        capture_output=True, env={**os.environ, "JAX_PLATFORMS": asked},
    )  # fmt: skip
    if asked == "cuda" and done.returncode == 0:
        pytest.skip("they are there")
    assert f"no devices (JAX_PLATFORMS = '{asked}')" in one_line(done)


def test_a_search_takes_no_part_in_a_run_of_several_processes(command, monkeypatch):
    monkeypatch.setenv("ONESTEP_PROCESSES", "2")
    done = command("search", "--config=configs/search_bn_adam.py")
    assert "ONESTEP_PROCESSES is set: a search is one process" in one_line(done)


def test_a_signal_while_they_are_being_started_reaches_the_later_ones():
    program = "test $ONESTEP_PROCESS = 0 && kill -TERM $PPID; exec sleep 50"
    done = subprocess.run(
        [*LOCAL, "-n", "16", "--", "bash", "-c", program], cwd=ROOT, timeout=30, capture_output=True
    )
    assert done.returncode == 128 + signal.SIGTERM


def test_local_prints_what_it_would_run():
    out = dry_run(*LOCAL, "-n", "2", "--port", "4000", "--cpu-devices", "2", "--dry-run", "--", "x")
    assert len(out.splitlines()) == 2
    assert "ONESTEP_COORDINATOR=127.0.0.1:4000 ONESTEP_PROCESSES=2 ONESTEP_PROCESS=1" in out
    assert out.splitlines()[1].endswith("JAX_NUM_CPU_DEVICES=2 x")


@pytest.mark.parametrize("name", ["slurm.sbatch", "slurm_search.sbatch", "tpu_pod.sh"])
def test_scripts_parse_and_open_with_the_line_to_run(name):
    path = ROOT / "launch" / name
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ") and f"launch/{name} " in text.split("\n")[2]


def test_slurm():
    text = (ROOT / "launch" / "slurm.sbatch").read_text()
    before, _, after = text.partition("set -euo pipefail")
    options = [line.split()[1] for line in before.splitlines() if line.startswith("#SBATCH ")]
    assert "#SBATCH" not in after  # Slurm reads no further than the first command
    assert all(option.startswith("--") for option in options)
    assert {"--ntasks-per-node=1", "--signal=TERM@120", "--requeue"} <= set(options)
    out = dry_run("bash", "launch/slurm.sbatch", "--config=c.py", "--config.duration=5 steps",
                  SLURM_JOB_ID="45678", SLURM_NTASKS="4")  # fmt: skip
    assert ":25678 ONESTEP_PROCESSES=4 srun " in out
    words = shlex.split(out)  # to be pasted
    assert words[0] == "env" and 'ONESTEP_PROCESS=$SLURM_PROCID exec "$@"' in words
    assert words[-4:] == ["-m", "research.main", "--config=c.py", "--config.duration=5 steps"]
    dry = ["env", "-i", f"PATH={os.environ['PATH']}", "DRY_RUN=1", "bash", "launch/slurm.sbatch"]
    assert "research.main" in dry_run(*dry)  # on a login node


def test_a_search_under_slurm():
    text = (ROOT / "launch" / "slurm_search.sbatch").read_text()
    before, _, after = text.partition("set -euo pipefail")
    options = [line.split()[1] for line in before.splitlines() if line.startswith("#SBATCH ")]
    assert "#SBATCH" not in after and {"--ntasks=1", "--requeue"} <= set(options)
    flag = "--config.search.slurm_options=(('gpus', 1),)"
    out = dry_run("bash", "launch/slurm_search.sbatch", "--config=c.py", flag, SLURM_JOB_ID="1",
                  SLURM_CONF="/etc/slurm.conf")  # fmt: skip
    assert out.endswith(f"-m research.search --config.search.engine=slurm --config=c.py {flag}\n")


def test_a_search_on_a_ray_cluster():
    yaml, jsonschema = pytest.importorskip("yaml"), pytest.importorskip("jsonschema")
    text = (ROOT / "launch" / "ray_search.yaml").read_text()
    assert "ray up -y $R && ray exec " in text.split("\n")[1]
    cluster = yaml.safe_load(text)
    assert {"type", "head_ip", "worker_ips"} == set(cluster["provider"])
    found = importlib.util.find_spec("ray")
    if found is None:
        pytest.skip("Ray's schema is not here (bash setup.sh test,ray)")
    schema = Path(found.origin).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(cluster, json.loads(schema.read_text()))


def test_tpu_pod():
    out = dry_run("bash", "launch/tpu_pod.sh", "pod", "zone-a", "--config=c.py",
                  "--config.duration=5 steps")  # fmt: skip
    assert out.startswith("gcloud compute tpus tpu-vm ssh pod --zone=zone-a --worker=all --command")
    there = shlex.split(out)[-1]
    assert "ONESTEP_CLUSTER=auto" in there and r"--config.duration=5\ steps" in there
    failed = subprocess.run(["bash", "launch/tpu_pod.sh", "pod"], cwd=ROOT, capture_output=True)
    assert failed.returncode == 2


def test_kubernetes():
    yaml = pytest.importorskip("yaml")
    text = (ROOT / "launch" / "kubernetes.yaml").read_text()
    assert "kubectl apply -f launch/kubernetes.yaml" in text.split("\n")[1]
    jobset = yaml.safe_load(text)
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {entry["name"]: entry for entry in container["env"]}
    assert set(variables) == {platform.COORDINATOR, platform.PROCESSES, platform.PROCESS}
    # A pod is called JOBSET-JOB-REPLICA-INDEX, in a subdomain of the JobSet's name.
    host = f"{jobset['metadata']['name']}-{job['name']}-0-0.{jobset['metadata']['name']}:29500"
    assert variables[platform.COORDINATOR]["value"] == host
    assert variables[platform.PROCESSES]["value"] == str(spec["completions"])
    assert spec["completions"] == spec["parallelism"] and spec["completionMode"] == "Indexed"
    field = variables[platform.PROCESS]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    claims = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= claims
