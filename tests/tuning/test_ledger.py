"""The ledger: only appended to; half lines go, damaged ones are named, others are refused."""

import json
import math
import re

import pytest
from searches import RATE, outcome, search, searched

from research.errors import UserError
from research.tuning.ledger import Ledger, read


@pytest.fixture
def path(tmp_path):
    search(searched(trials=4, pieces=3), tmp_path / "ledger.jsonl")
    return tmp_path / "ledger.jsonl"


def test_lines_are_the_events_in_their_order(path):
    lines = read(path)
    assert lines[0]["event"] == "study" and lines[0]["trials"] == 4
    assert lines[0]["config"]["search"]["pieces"] == 3
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


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2],
        lambda line: b"",
        lambda line: b"\xff" + line[1:],
        lambda line: b"[1]",
        lambda line: b'{"event": "unheard of"}',
        lambda line: line.replace(b'"step"', b'"stop"'),
        lambda line: re.sub(rb'"piece": \d+', b'"piece": "one"', line),
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


def test_what_the_line_says_may_be_done_about_it(path):
    expected = outcome(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:7]))
    search(searched(trials=4, pieces=3), path)
    assert outcome(path) == expected


def test_lines_that_no_search_of_this_config_writes_are_refused(path):
    lines = path.read_bytes().splitlines(keepends=True)
    at = [number for number, line in enumerate(lines) if b'"report"' in line]
    lines[at[0]], lines[at[1]] = lines[at[1]], lines[at[0]]
    path.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=rf'line {at[0] + 1}: .*"trial": 0, "piece": 1'):
        search(searched(trials=4, pieces=3), path)


def test_another_config_is_refused_with_the_keys_that_differ(path):
    other = searched(trials=4, pieces=3)
    other.search.seed = 1
    other.optimizer.momentum = 0.8
    with pytest.raises(UserError) as refused:
        search(other, path)
    assert "optimizer.momentum: 0.9 -> 0.8" in str(refused.value)
    assert "search.seed: 0 -> 1" in str(refused.value)
    assert "search.trials" not in str(refused.value)
    fewer = searched(trials=3, pieces=3)
    with pytest.raises(UserError, match=r"trials = 3.*4 already \(allowed: as many"):
        search(fewer, path)


def test_a_ledger_without_its_first_line_is_damaged(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(UserError, match="line 1: damaged"):
        search(searched(trials=4, pieces=3), path)


def test_nothing_is_written_before_it_is_committed(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.begin(searched())
        told = ledger.append("end", trial=0, why="finished")
        assert told["event"] == "end" and path.read_bytes() == b""
        ledger.commit()
        assert [line["event"] for line in read(path)] == ["study", "end"]


def test_numbers_come_back_as_they_were(tmp_path):
    path = tmp_path / "ledger.jsonl"
    report = {"trial": 0, "piece": 1, "step": 3, "finite": False}
    with Ledger(path) as ledger:
        told = [
            ledger.append("report", score=score, **report)["score"]
            for score in (0.1 + 0.2, math.nan, math.inf, 1e-310)
        ]
        ledger.commit()
    expected = [0.1 + 0.2, math.nan, math.nan, 1e-310]
    assert told == pytest.approx(expected, nan_ok=True, rel=0, abs=0)
    again = [line["score"] for line in read(path)]
    assert again == pytest.approx(expected, nan_ok=True, rel=0, abs=0)


def test_values_are_what_the_sampler_proposed(path):
    study, _ = search(searched(trials=4, pieces=3), path.with_name("other.jsonl"))
    asked = [one for line in read(path) if line["event"] == "ask" for one in line["trials"]]
    assert [one["values"] for one in asked] == [trial.values for trial in study.trials]
    assert all(isinstance(trial.values[RATE], float) for trial in study.trials)
