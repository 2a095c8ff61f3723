"""Workers: a search by several of them is that of one population, whoever is lost, and when."""

import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from searches import COHORTS, Formula, outcome, search, searched

from research.config import to_json
from research.errors import UserError
from research.tuning import file_rpc
from research.tuning.config import training
from research.tuning.costs import Estimate
from research.tuning.ledger import Ledger
from research.tuning.methods import check_search
from research.tuning.population import Population
from research.tuning.remote_population import RemotePopulation, WorkerLost, WorkerPool
from research.tuning.reports import Report
from research.tuning.spaces import Space
from research.tuning.study import Study
from research.tuning.trials import TrialState
from research.tuning.worker import Worker

SEARCHES = {
    "asha": searched(scheduler="asha", reduction=2, trials=20),
    "halving": searched(scheduler="successive_halving", reduction=2, trials=9),
    "population": searched(scheduler="population_based", exploit_share=0.4, trials=10, grace=2),
    "cohorts": searched(COHORTS, scheduler="asha", reduction=2, trials=20),
}
SLOTS, LANES = 5, 2


class Remembered(Formula):
    """The closed form with the states of a real population, and as many slots as it was told."""

    def __init__(self, config, slots, **_):
        super().__init__(0, ("adam", "nesterov", "sgd").index(config.optimizer.name) / 3, LANES)
        self.slots, self.chunk, self.lanes_of_slot = slots, 1, LANES

    def fitting(self):
        return 3

    parameters = memory = seconds = fitting

    def description(self):
        return ["data: in closed form"]

    def fingerprint(self):
        return {"class_names": ["a", "b"]}

    def estimate(self):
        return Estimate(memory=100 * self.slots, seconds=self.slots / 8)

    def compile(self, chunk, turns):
        self._count = self.slots

    def grow(self, slots):
        self._count = self.slots = slots

    def park(self, slot):
        values, segments, done, state = super().park(slot)
        return TrialState(values, segments, done, [{"float64": np.array([state])}])

    def unpark(self, slot, parked):
        state = float(parked.lanes[0]["float64"][0])
        super().unpark(slot, (parked.values, parked.segments, parked.done, state))


class Here:
    """A worker of this process, lost after so many calls: before the last is done, or after."""

    def __init__(self, calls=10**9, before=False):
        self._worker, self._left, self._before = Worker(Remembered), calls, before

    def send(self, text):
        self._left -= 1
        if self._left >= 0 and not (self._left == 0 and self._before):
            return self._worker.call(text)
        return None

    def answer(self, ticket):
        if self._left <= 0:
            raise WorkerLost("gone")
        return ticket


def by_workers(config, path, remotes):
    warnings = []
    pool = WorkerPool(remotes, warnings.append)
    space = Space.from_config(config)

    def populate(values, facts):
        program, segments = space.program(config, values), config.search.segments
        remote = RemotePopulation(pool, program, 1, segments=segments)
        remote.slots = SLOTS
        remote.compile()
        return remote, {"slots": SLOTS, "chunk": 1, "parameters": 95}

    with Ledger(path) as ledger:
        ledger.begin(config)
        Study(config, space, ledger, populate).run()
    return warnings


@pytest.fixture(params=SEARCHES)
def whole(request, tmp_path):
    """A search by one population: its config, and what came out."""
    config = SEARCHES[request.param]
    search(config, tmp_path / "one.jsonl", SLOTS, LANES)
    return config, outcome(tmp_path / "one.jsonl")


def test_a_remote_population_is_a_population(whole, tmp_path):
    config, expected = whole
    for count in (3, 8):
        path = tmp_path / f"{count}.jsonl"
        assert by_workers(config, path, [Here() for _ in range(count)]) == []
        assert outcome(path) == expected


def test_lost_workers_change_nothing(whole, tmp_path):
    config, expected = whole
    random = np.random.default_rng(0)
    lost = 0
    for number in range(12):
        path = tmp_path / f"{number}.jsonl"
        mortal = [Here(int(random.integers(1, 12)), bool(random.integers(2))) for _ in range(3)]
        lost += len(by_workers(config, path, [*mortal, Here()]))
        assert outcome(path) == expected
    assert lost > 12


def test_without_a_worker_it_ends_and_goes_on_with_others(tmp_path):
    config, path = SEARCHES["asha"], tmp_path / "ledger.jsonl"
    with pytest.raises(UserError, match="no worker is left; the same command goes on"):
        by_workers(config, path, [Here(12), Here(9)])
    assert b"report" in path.read_bytes()
    by_workers(config, path, [Here()])
    search(config, tmp_path / "one.jsonl", SLOTS, LANES)
    assert outcome(path) == outcome(tmp_path / "one.jsonl")


def test_memory_is_that_of_all_workers():
    remote = RemotePopulation(WorkerPool([Here(), Here()], print), training(searched()), 1)
    assert (remote.fitting(), remote.lanes_of_slot, remote.parameters()) == (6, LANES, 3)
    remote.slots = 5  # 3 and 2, at most
    assert remote.estimate() == Estimate(memory=600, seconds=3 / 8)


def test_workers_with_other_data_are_refused():
    class Elsewhere(Remembered):
        def fingerprint(self):
            return {"class_names": ["a", "c"]}

    other = Here()
    other._worker = Worker(Elsewhere)
    with pytest.raises(UserError, match="worker 1 has other data than worker 0: .*a, c.*a, b"):
        RemotePopulation(WorkerPool([Here(), other], print), training(searched()), 1)


def asked(worker, *call):
    return json.loads(worker.call(json.dumps(call)))


def test_mistakes_are_told_and_are_no_loss(tmp_path):
    config = training(searched())
    config.data.validation = 0
    worker = Worker()
    assert "config.data.validation = 0" in asked(worker, "open", to_json(config), {})["refused"]
    assert "Traceback" in asked(worker, "train", 7, [])["failed"]
    with pytest.raises(RuntimeError, match="a worker failed:\nTraceback"):
        WorkerPool([Here()], print).ask_all("train", 7, [])


def test_states_go_from_worker_to_worker_to_the_bit():
    """With the very Population: parked at one, trained on at the other, in a slot that grew."""
    config = training(searched())
    config.data.name, config.model.hidden, config.duration = "moons", (8,), "20 steps"
    config.compute.evaluation_batch_size = 128
    settings = {"segments": 2, "mode": "sequential"}
    values = {"optimizer.learning_rate": 1e-2}
    alone = Population(config, 1, **settings)
    alone.compile()
    alone.start(0, values, 2)
    reports = [alone.advance([0])[0] for _ in range(2)]
    one, other = Worker(), Worker()
    for worker in (one, other):
        asked(worker, "open", to_json(config), settings)
        assert asked(worker, "compile", 0, 1, 1, 1)["done"]["chunk"] == 1
    work = [[0, [["start", values, 2], ["advance"]]]]
    assert Report(**asked(one, "train", 0, work)["done"][0]) == reports[0]
    state = asked(one, "train", 0, [[0, [["state"]]]])["done"][0]
    work = [[2, [["unpark", state], ["advance"]]], [1, [["start", values, 2], ["advance"]]]]
    later, first = asked(other, "train", 0, work)["done"]
    assert (Report(**later), Report(**first)) == (reports[1], reports[0])


def test_files_carry_calls_and_their_ends(tmp_path):
    """Over files, without Slurm: who has ended, and who is silent."""

    class Job:
        state, ended, paths = "RUNNING", False, SimpleNamespace(stderr="1.err")

        def done(self):
            return self.ended

    (tmp_path / "0").mkdir()
    job = Job()
    with file_rpc.heartbeat(tmp_path / file_rpc.DRIVER):
        worker = threading.Thread(target=file_rpc.serve, args=(str(tmp_path / "0"),))
        worker.start()
        box = file_rpc.FileConnection(tmp_path / "0", job)
        assert "process" in json.loads(box.answer(box.send('["meet"]')))["done"]
        assert "failed" in json.loads(box.answer(box.send('["train", 0, []]')))
    worker.join(timeout=20)  # it ends with its driver
    assert not worker.is_alive() and list((tmp_path / "0").iterdir()) == []
    file_rpc.serve(str(tmp_path / "0"))  # one that comes too late, or whose folder is gone
    file_rpc.serve(str(tmp_path / "none" / "0"))
    job.ended, job.state = True, "NODE_FAIL"
    with pytest.raises(WorkerLost, match="NODE_FAIL, 1.err"):
        box.answer(box.send('["meet"]'))


def test_silence_is_noticed_by_ones_own_clock(tmp_path):
    monitor = file_rpc.Monitor(tmp_path / "other", silent=1.0)
    assert not monitor.stopped()
    with file_rpc.heartbeat(tmp_path / "other", every=0.02):
        for _ in range(5):
            time.sleep(0.1)
            assert not monitor.stopped()
    assert monitor.stopped()  # it said so
    assert file_rpc.Monitor(tmp_path / "other", begun=True).stopped()
    (tmp_path / "other").touch()
    assert not monitor.stopped()
    time.sleep(1.2)
    assert monitor.stopped()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"engine": "slrum"}, "config.search.engine = 'slrum' is unknown; did you mean 'slurm'"),
        ({"workers": -1}, "config.search.workers = -1 is out of range"),
        ({"slurm_options": ("gpu",)}, r"slurm_options = \('gpu',\) is no tuple of pairs"),
    ],
)
def test_mistakes_in_the_config(settings, told):
    with pytest.raises(UserError, match=told):
        check_search(searched(**settings))


def test_another_engine_may_go_on(tmp_path):
    path = tmp_path / "ledger.jsonl"
    first, _ = search(searched(), path)
    again, populations = search(searched(engine="ray", workers=3), path)
    assert again.trials == first.trials and not populations
