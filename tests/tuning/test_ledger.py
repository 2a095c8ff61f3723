"""The ledger: only appended to; half lines go, damaged ones are named, others are refused."""

import json
import math
import re

import numpy as np
import pytest
from searches import RATE, SMOOTHING, outcome, search, searched

from research.errors import UserError
from research.reporting.searched import read_search
from research.tuning.ledger import Ledger
from research.tuning.ledger_lines import read


@pytest.fixture
def path(tmp_path):
    search(searched(trials=4, segments=3), tmp_path / "ledger.jsonl")
    return tmp_path / "ledger.jsonl"


def test_lines_are_the_events_in_their_order(path):
    lines = read(path)
    assert lines[0]["event"] == "study" and lines[0]["trials"] == 4
    assert lines[0]["config"]["search"]["segments"] == 3
    seen = [line["event"] for line in lines]
    assert [seen.count(event) for event in ("ask", "program", "report", "end")] == [2, 1, 12, 4]
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # NaN is no JSON


def test_a_half_last_line_is_cut_off(path):
    data = path.read_bytes()
    for rest in (b"{", b'{"event": "end"', data.splitlines()[-1]):
        path.write_bytes(data + rest)
        with Ledger(path):
            assert path.read_bytes() == data
        path.write_bytes(data + rest)
        assert len(read(path)) == data.count(b"\n")  # who only looks changes nothing
        assert path.read_bytes() == data + rest


def test_a_number_of_numpy_is_not_a_list(path):
    """Which it compares with element by element."""
    with Ledger(path) as ledger:
        first = read(path)[0]
        ledger.due("study", config=first["config"], trials=4)
        ledger._lines[1] = {**ledger._lines[1], "count": []}
        with pytest.raises(UserError, match="line 2: here a search"):
            ledger.due("ask", count=np.float64(4.0))


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2],
        lambda line: b"",
        lambda line: b"\xff" + line[1:],
        lambda line: b"[1]",
        lambda line: b'{"event": "unheard of"}',
        lambda line: line.replace(b'"step"', b'"stop"'),
        lambda line: re.sub(rb'"segment": \d+', b'"segment": "one"', line),
        lambda line: re.sub(rb'"segment": \d+', b'"segment": true', line),
        lambda line: re.sub(rb'"segment": \d+', b'"segment": 2', line),
        lambda line: re.sub(rb'"trial": \d+', b'"trial": 4', line),
        lambda line: re.sub(rb'"slot": \d+', b'"slot": -1', line),
        lambda line: re.sub(rb'"step": \d+', b'"step": %d' % 10**400, line),
        lambda line: re.sub(rb'"score": [-.\d]+', b'"score": null', line),  # and it is finite
        lambda line: re.sub(rb'"score": [-.\d]+', b'"score": 1e999', line),
        lambda line: re.sub(rb'"epoch": [.\d]+', b'"epoch": 0', line),
        lambda line: line.replace(b'"standard_error"', b'"error"'),
        lambda line: line.replace(b'"validation_loss"', b'"loss"'),
        lambda line: line.replace(b'"time"', b'"date"'),
        lambda line: b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_named_and_refused(path, damage):
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"report"' in line)
    lines[at] = damage(lines[at][:-1]) + b"\n"
    path.write_bytes(b"".join(lines))
    before = path.read_bytes()
    for look in (read, Ledger):
        with pytest.raises(UserError, match=rf"ledger.jsonl, line {at + 1}: damaged"):
            look(path)
    assert path.read_bytes() == before


PROPOSED = {"number": 4, "values": {RATE: 1e-3, SMOOTHING: 0.1}, "share": 1.0, "parent": None}


@pytest.mark.parametrize("event", ["study", "ask", "program", "report", "end"])
def test_nothing_happens_twice(path, event):
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if f'"{event}"'.encode() in line)
    path.write_bytes(b"".join([*lines[: at + 1], lines[at], *lines[at + 1 :]]))
    with pytest.raises(UserError, match=rf"ledger.jsonl, line {at + 2}: damaged"):
        read(path)


def ask(trials, count=1) -> str:
    return json.dumps({"event": "ask", "count": count, "trials": trials, "time": 1.0}) + "\n"


@pytest.mark.parametrize(
    "trials",
    [
        *(
            [PROPOSED | change]
            for change in (
                {"number": 5},
                {"number": 3},
                {"share": 0},
                {"share": 1.5},
                {"share": None},
                {"values": []},
                {"parent": 0},  # a point of the sampler has none
            )
        ),
        [],
        4,
        ["4"],
        [PROPOSED, PROPOSED | {"number": 5}],  # one was asked for
    ],
)
def test_a_proposal_that_cannot_be_is_damage(path, trials):
    whole = path.read_text()
    path.write_text(whole + ask([PROPOSED]))
    read(path)
    path.write_text(whole + ask(trials))
    with pytest.raises(UserError, match=f"line {whole.count(chr(10)) + 1}: damaged"):
        read(path)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({RATE: 1e-3}, f"{SMOOTHING} is missing"),
        ({RATE: 1e-3, SMOOTHING: 0.1, "seed": 1}, "'seed' is unknown"),
        ({RATE: 7.0, SMOOTHING: 0.1}, f"{RATE} = 7.0 is not on its axis"),
        ({RATE: "high", SMOOTHING: 0.1}, f"{RATE} = 'high' is not on its axis"),
    ],
)
def test_values_that_are_no_point_of_the_space_are_refused(path, values, told):
    lines = path.read_bytes().splitlines(keepends=True)
    asked = json.loads(lines[1])
    asked["trials"][0]["values"] = values
    path.write_bytes(b"".join([lines[0], json.dumps(asked).encode() + b"\n", *lines[2:]]))
    with pytest.raises(UserError, match=rf"ledger.jsonl, line 2\b.*{told}"):
        search(searched(trials=4, segments=3), path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b'"slots": 4', b'"slots": 5', r"line \d: 5 slots \(allowed: 1 to 4"),
        (b'"slots": 4', b'"slots": 0', r"line \d: 0 slots"),
        (b'"chunk": 1', b'"chunk": "one"', r"line \d: damaged"),
        (b'"parameters"', b'"params"', r"line \d: damaged"),
        (b'"program": 0, "values": {}', b'"program": 0, "values": {"a": 1}', "changed by hand"),
        (b'"program": 0', b'"program": 1', r"line \d: damaged"),
    ],
)
def test_facts_that_cannot_be_are_refused(path, old, new, told):
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(UserError, match=told):
        search(searched(trials=4, segments=3), path)


def test_lines_after_the_end_of_the_search_are_refused(path):
    lines = path.read_bytes().count(b"\n")
    path.write_text(path.read_text() + ask([PROPOSED]))
    with pytest.raises(UserError, match=rf"line {lines + 1}: here .* has nothing more"):
        search(searched(trials=4, segments=3), path)


@pytest.mark.parametrize("config", [{"a.b": 1}, {"search": 3}, {}, {"": {"": {}}}, {"model": []}])
def test_a_config_that_is_none_is_refused_in_a_line(path, config):
    lines = path.read_bytes().splitlines(keepends=True)
    study = json.loads(lines[0]) | {"config": config}
    path.write_bytes(b"".join([json.dumps(study).encode() + b"\n", *lines[1:]]))
    with pytest.raises(UserError, match="line 1: damaged|search of another config"):
        search(searched(trials=4, segments=3), path)


def test_what_the_line_says_may_be_done_about_it(path):
    expected = outcome(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:7]))
    search(searched(trials=4, segments=3), path)
    assert outcome(path) == expected


def test_lines_that_no_search_of_this_config_writes_are_refused(path):
    lines = path.read_bytes().splitlines(keepends=True)
    at = [number for number, line in enumerate(lines) if b'"report"' in line]
    lines[at[0]], lines[at[1]] = lines[at[1]], lines[at[0]]
    path.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=rf'line {at[0] + 1}: .*"trial": 0, "segment": 1'):
        search(searched(trials=4, segments=3), path)


def test_another_config_is_refused_with_the_keys_that_differ(path):
    other = searched(trials=4, segments=3)
    other.search.seed = 1
    other.optimizer.momentum = 0.8
    with pytest.raises(UserError) as refused:
        search(other, path)
    assert "optimizer.momentum: 0.9 -> 0.8" in str(refused.value)
    assert "search.seed: 0 -> 1" in str(refused.value)
    assert "search.trials" not in str(refused.value)
    fewer = searched(trials=3, segments=3)
    with pytest.raises(UserError, match=r"trials = 3.*4 already \(allowed: as many"):
        search(fewer, path)


def test_a_search_that_is_older_than_a_key_goes_on_with_its_default(path):
    lines = path.read_bytes().splitlines(keepends=True)
    study = json.loads(lines[0])
    del study["config"]["search"]["beta"], study["config"]["optimizer"]["momentum"]
    path.write_bytes(b"".join([json.dumps(study).encode() + b"\n", *lines[1:]]))
    search(searched(trials=4, segments=3), path)
    other = searched(trials=4, segments=3)
    other.search.beta = 2.0
    with pytest.raises(UserError, match=r"search.beta: 1.0 -> 2.0"):
        search(other, path)
    assert read_search(path.parent).config.search.beta == 1.0


def test_a_ledger_without_its_first_line_is_damaged(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(UserError, match="line 1: damaged"):
        search(searched(trials=4, segments=3), path)


def test_nothing_is_written_before_it_is_committed(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.begin(searched())
        told = ledger.append("ask", count=1, trials=[PROPOSED | {"number": 0}])
        assert told["event"] == "ask" and path.read_bytes() == b""
        ledger.commit()
        assert [line["event"] for line in read(path)] == ["study", "ask"]


def test_numbers_come_back_as_they_were(tmp_path):
    path = tmp_path / "ledger.jsonl"
    report = {"trial": 0, "step": 3, "slot": 0, "epoch": 1.0, "standard_error": math.nan,
              "finite": False, "train_loss": 0.5, "validation_loss": 0.5}  # fmt: skip
    with Ledger(path) as ledger:
        ledger.begin(searched())
        ledger.append("ask", count=1, trials=[PROPOSED | {"number": 0}])
        told = [
            ledger.append("report", segment=segment, score=score, **report)["score"]
            for segment, score in enumerate((0.1 + 0.2, math.nan, math.inf, 1e-310), start=1)
        ]
        ledger.commit()
    expected = [0.1 + 0.2, math.nan, math.nan, 1e-310]
    assert told == pytest.approx(expected, nan_ok=True, rel=0, abs=0)
    again = [line["score"] for line in read(path) if line["event"] == "report"]
    assert again == pytest.approx(expected, nan_ok=True, rel=0, abs=0)


def test_values_are_what_the_sampler_proposed(path):
    study, _ = search(searched(trials=4, segments=3), path.with_name("other.jsonl"))
    asked = [one for line in read(path) if line["event"] == "ask" for one in line["trials"]]
    assert [one["values"] for one in asked] == [trial.values for trial in study.trials]
    assert all(isinstance(trial.values[RATE], float) for trial in study.trials)


def test_a_search_goes_on_with_the_data_it_began_with(tmp_path):
    config = searched()
    data = {"class_names": ["a"], "train": {"examples": 9, "inputs": "0"}, "cut": "1"}
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.begin(config, data)
        ledger.commit()

    def again(data, **changes):
        config = searched()
        config.update_from_flattened_dict(changes)
        with Ledger(tmp_path / "ledger.jsonl") as ledger:
            ledger.begin(config, data)
            return ledger.data

    assert again(data) == data == again(None)
    assert again(data, **{"data.path": "/moved.npz", "data.data_dir": "/moved"}) == data
    for other, told in (
        ({**data, "train": {"examples": 8, "inputs": "0"}}, "train has 8 examples, and had 9"),
        ({**data, "train": {"examples": 9, "inputs": "1"}}, "train has other inputs"),
        ({**data, "cut": "2"}, "train and validation are cut otherwise"),
        ({**data, "class_names": ["b"]}, "the classes are b, and were a"),
    ):
        with pytest.raises(UserError, match=f"holds results of other data: {told}"):
            again(other)
    with pytest.raises(UserError, match=r"another config \(data.path"):
        again(None, **{"data.path": "/moved.npz"})  # nobody knows whether it is the same


def test_a_ledger_that_calls_segments_pieces_goes_on(tmp_path):
    """An older one: it is read, continued and reported like any other."""

    def lines_of(path):
        lines = [{k: v for k, v in line.items() if k != "time"} for line in read(path)]
        return list(map(repr, lines[1:]))  # without the config; NaN as text

    config = searched(trials=4, segments=3, scheduler="asha", reduction=2)
    expected, path = tmp_path / "expected.jsonl", tmp_path / "ledger.jsonl"
    search(config, expected)
    old = expected.read_text().replace('"segment"', '"piece"').replace('"segments"', '"pieces"')
    lines = old.splitlines(keepends=True)
    for count in (1, len(lines) // 2, len(lines)):
        path.write_text("".join(lines[:count]))
        study, _ = search(config, path)
        assert [trial.segments for trial in study.trials] == [3] * 4
        assert lines_of(path) == lines_of(expected)
    assert [trial.segments for trial in read_search(tmp_path).trials] == [3] * 4
    path.write_text(old.replace('"pieces": 3', '"pieces": 4'))
    with pytest.raises(UserError, match="search.segments: 4 -> 3"):
        search(config, path)
