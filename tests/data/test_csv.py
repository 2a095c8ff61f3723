"""Tables in .csv files, against scikit-learn's encoders, and broken ones."""

import csv
import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from research.config import default_config
from research.data import csv_encoding, csv_table, identity, sources
from research.data.relabelling import relabelled
from research.errors import UserError
from research.training import setup

RANDOM = np.random.default_rng(0)
COUNT = 60
AGES = RANDOM.integers(18, 90, COUNT).astype(str)
SIZES = np.round(RANDOM.normal(170, 9, COUNT), 2).astype(str)
COLOURS = np.array(["red", "blue", "dark green"])[RANDOM.integers(0, 3, COUNT)]
SPECIES = np.array(["cat", "dog"])[np.arange(COUNT) % 2]
HEADER = ("age", "colour", "size", "species")


def write(path, header, *columns, delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))
    return path


def load(path, kind="classes", whole=False, encoding=None, **values):
    config = default_config().data
    config.update({"name": "csv", "path": str(path), **values})
    return sources.load(config, whole, kind=kind, encoding=encoding)


def pets(path, **changes):
    columns = {"age": AGES, "colour": COLOURS, "size": SIZES, "species": SPECIES} | changes
    return write(path, columns, *columns.values())


def holed(column, *rows):
    column = np.array(column, dtype="U20")
    column[list(rows)] = np.resize(["", "NA", "nan", "?"], len(rows))
    return column


def expected(train, *others):
    """Scikit-learn's features of rows (age, colour, size): fitted on train, in our order."""
    steps = [
        ("age", SimpleImputer(strategy="median"), [0]),
        ("colour", OneHotEncoder(handle_unknown="ignore", sparse_output=False), [1]),
        ("size", SimpleImputer(strategy="median"), [2]),
    ]
    encoder = ColumnTransformer(steps).fit(train)
    return [encoder.transform(of) for of in (train, *others)]


def as_objects(*columns, missing=("", "NA", "nan", "?")):
    """Rows as scikit-learn takes them: numbers are floats, with NaN where they are missing."""
    rows = np.empty((len(columns[0]), 3), object)
    for place, column in enumerate(columns):
        for row, cell in enumerate(column):
            gone = cell in missing
            rows[row, place] = cell if place == 1 else float("nan" if gone else cell)
    return rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_features_are_those_of_scikit_learn(tmp_path, delimiter):
    """In train.csv and test.csv, with missing numbers, an unknown word and another order."""
    ages, sizes = holed(AGES, 3, 7, 50), holed(SIZES, 4, 55)
    colours = COLOURS.copy().astype("U20")
    colours[52] = "violet"
    first, last = slice(0, 40), slice(40, 60)
    train = [column[first] for column in (ages, colours, sizes, SPECIES)]
    test = [column[last] for column in (ages, colours, sizes, SPECIES)]
    write(tmp_path / "train.csv", HEADER, *train, delimiter=delimiter)
    write(tmp_path / "test.csv", HEADER[::-1], *test[::-1], delimiter=delimiter)
    dataset = load(tmp_path, target="species", missing="median")
    references = expected(as_objects(*train[:3]), as_objects(*test[:3]))
    for split, reference in zip((dataset.train, dataset.test), references, strict=True):
        np.testing.assert_array_equal(split.inputs, reference)
    assert dataset.class_names == ("cat", "dog")
    assert [dataset.class_names[label] for label in dataset.test.labels] == test[3].tolist()
    assert csv_encoding.feature_names(dataset.encoding) == [
        "age", "colour=blue", "colour=dark green", "colour=red", "size",
    ]  # fmt: skip
    filled, unknown, filled_test = dataset.messages
    assert "train: missing values: 2 in age, 1 in size" in filled
    assert "test: column colour: 1 cells hold words that train does not have (violet)" in unknown
    assert "test: missing values: 1 in age, 1 in size" in filled_test
    # The encoding is plain JSON, a part of the fingerprint, and encodes a file without labels.
    encoding = json.loads(json.dumps(dataset.fingerprint()["encoding"]))
    assert encoding == dataset.encoding
    write(tmp_path / "new.csv", ("size", "colour", "age"), *[test[2], test[1], test[0]])
    inputs, messages = csv_table.encode(tmp_path / "new.csv", encoding)
    np.testing.assert_array_equal(inputs, references[1])
    assert len(messages) == 2


def test_the_encoding_is_fitted_on_train_alone(tmp_path):
    """A file that is cut: the rows of the test split change nothing of it."""
    known = load(pets(tmp_path / "pets.csv", age=holed(AGES, 0), size=SIZES), missing="median")
    rows = known.test.numbers - 2  # of the lines from 1, the first is the header
    assert len(rows) == 12 and 0 not in rows
    ages, colours = AGES.astype("U20"), COLOURS.astype("U20")
    ages[rows], colours[rows] = "1000", "pink"
    changed = load(
        pets(tmp_path / "pets.csv", age=holed(ages, 0), colour=colours), missing="median"
    )
    assert changed.encoding == known.encoding
    median = np.median(np.delete(AGES.astype(float), [*rows, 0]))
    assert known.encoding["columns"][0] == {"name": "age", "median": median}
    assert "test: column colour: 12 cells" in changed.messages[-1]
    np.testing.assert_array_equal(changed.test.inputs[:, 1:4], 0)


def test_a_missing_word_is_none_of_the_words(tmp_path):
    dataset = load(pets(tmp_path / "pets.csv", colour=holed(COLOURS, 0, 9)), missing="median")
    assert dataset.encoding["columns"][1]["categories"] == ["blue", "dark green", "red"]
    together = np.concatenate([dataset.train.inputs, dataset.test.inputs])
    rows = np.concatenate([dataset.train.numbers, dataset.test.numbers]) - 2
    assert sorted(rows[together[:, 1:4].sum(1) == 0]) == [0, 9]
    assert [line for line in dataset.messages if "hold words" in line] == []
    assert sum("in colour; numbers become" in line for line in dataset.messages) >= 1


def test_targets_of_each_kind(tmp_path):
    path = write(tmp_path / "t.csv", ("x", "a", "b, c", "d"), SIZES, AGES, SIZES,
                 np.where(AGES > "5", "True", "false"))  # fmt: skip
    numbers = load(path, "numbers", target="b, c", ignore="d")
    assert numbers.class_names == ("b, c",) and numbers.ignored == "1 column"
    assert csv_encoding.feature_names(numbers.encoding) == ["x", "a"]
    everything = np.concatenate([of.labels for of in (numbers.train, numbers.test)])
    rows = np.concatenate([of.numbers for of in (numbers.train, numbers.test)]) - 2
    np.testing.assert_array_equal(everything[:, 0], SIZES[rows].astype(np.float64))
    two = load(path, "numbers", target="x,a", ignore="d")
    assert two.train.labels.shape == (48, 2) and two.class_names == ("x", "a")
    flags = load(path, "labels")
    assert flags.class_names == ("d",) and flags.train.labels.dtype == np.uint8
    assert flags.messages[0] == "t.csv: column d is the target (config.data.target: another)"
    assert set(np.unique(flags.train.labels)) == {0, 1}
    coded = load(pets(tmp_path / "pets.csv", species=np.arange(COUNT) % 3 + 1))
    assert coded.class_names == ("1", "2", "3")


def test_another_table_of_a_run(tmp_path):
    """Tested whole, by the encoding of the run and the names of its classes."""
    known = load(pets(tmp_path / "pets.csv"))
    few = slice(0, 9)
    new = write(tmp_path / "new.csv", ("more", *HEADER[::-1]), AGES[few], SPECIES[few],
                SIZES[few], COLOURS[few], AGES[few])  # fmt: skip
    dataset = relabelled(load(new, whole=True, encoding=known.encoding), known.class_names)
    (reference,) = expected(as_objects(AGES, COLOURS, SIZES))
    np.testing.assert_array_equal(dataset.test.inputs, reference[few])
    assert dataset.messages == ("new.csv: test: columns that are not used: more",)
    with pytest.raises(UserError, match="has no column colour, size .its columns: age, species;"):
        load(write(tmp_path / "bad.csv", ("age", "species"), AGES, SPECIES), whole=True,
             encoding=known.encoding)  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [
        lambda of: of.pop("columns"),
        lambda of: of.update(columns=[]),
        lambda of: of["columns"][0].pop("median"),
        lambda of: of["columns"][0].update(name=3),
        lambda of: of["columns"][1].update(categories=[1]),
        lambda of: of["columns"].append("age"),
        lambda of: of.update(targets="species"),
        lambda of: of.update(missing=None),
    ],
)
def test_a_damaged_encoding_is_refused(tmp_path, damage):
    path = pets(tmp_path / "pets.csv")
    encoding = load(path).encoding
    damage(encoding)
    for read in (load, lambda path, encoding: csv_table.encode(path, encoding)):
        with pytest.raises(UserError, match="encoding of the columns is damaged"):
            read(path, encoding=encoding)


def test_test_data_without_labels_are_not_used(tmp_path):
    pets(tmp_path / "train.csv")
    write(tmp_path / "test.csv", HEADER[:3], AGES, COLOURS, SIZES)
    dataset = load(tmp_path, target="species")
    assert (len(dataset.train), len(dataset.test)) == (48, 12)
    assert "test.csv has no column 'species', and is not used" in dataset.messages[0]
    pets(tmp_path / "validation.csv")
    assert len(load(tmp_path, target="species").validation) == 60


def test_an_encoding_that_differs_is_another_data_set(tmp_path):
    known = load(pets(tmp_path / "pets.csv")).fingerprint()
    (told,) = identity.differences(
        known, load(write(tmp_path / "pets.csv", ("years", *HEADER[1:]), AGES, COLOURS, SIZES,
                          SPECIES)).fingerprint()
    )  # fmt: skip
    assert told == "the columns of the table are other ones, or are encoded otherwise"


def test_a_run_is_set_up(tmp_path):
    config = default_config()
    config.data.update({"name": "csv", "path": str(pets(tmp_path / "pets.csv"))})
    run = setup.from_config(config)
    assert run.train.inputs.shape == (43, 5) and run.train.dtype == np.float32
    line, *_ = run.description()
    assert line.startswith("data: pets.csv: 43 train, 5 validation, 12 test examples; 2 classes")


@hypothesis.given(
    st.lists(
        st.tuples(st.floats(-1e9, 1e9), st.sampled_from(['a,"b"', "c;d", "e\nf", "ü", "z"])),
        min_size=12, max_size=40,
    )
)  # fmt: skip
@hypothesis.settings(max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
def test_cells_come_back_as_they_were_written(tmp_path, rows):
    numbers, words = zip(*rows, strict=True)
    path = write(tmp_path / "x.csv", ("number", "word", "y"), map(repr, numbers), words,
                 np.arange(len(rows)) % 2)  # fmt: skip
    dataset = load(path, whole=True)
    np.testing.assert_array_equal(dataset.test.inputs[:, 0], numbers)
    (column,) = [of for of in dataset.encoding["columns"] if of["name"] == "word"]
    found = [column["categories"][place] for place in dataset.test.inputs[:, 1:].argmax(1)]
    assert found == list(words)


MANY = np.array([f"name {number}" for number in range(COUNT)])


@pytest.mark.parametrize(
    ("changes", "values", "message"),
    [
        ({"age": holed(AGES, 4)}, {}, "column 'age', line 6 is '': no value .*'median'; 1 such"),
        ({"colour": holed(COLOURS, 0, 1)}, {}, "column 'colour', line 2 is '': no value .*2 such"),
        ({"age": [""] * COUNT}, {"missing": "median"}, "column 'age' has no value in train"),
        ({"species": holed(SPECIES, 3)}, {}, "column 'species', line 5 is '': no label"),
        ({"species": holed(SPECIES, 3)}, {"missing": "median"}, "line 5 is '': no label"),
        ({"age": np.where(AGES[2] == AGES, "1,234", AGES)}, {}, "line 4 is '1,234' .allowed: numb"),
        ({"size": np.char.replace(SIZES, ".", ",")}, {}, "decimal commas"),
        ({"size": np.char.add("$", SIZES)}, {}, "'size', line 2 is '.* units"),
        ({"size": np.char.add(SIZES, " %")}, {}, "'size', line 2 is '.* units"),
        ({"age": np.where(AGES[2] == AGES, "inf", AGES)}, {}, "line 4 is 'inf'"),
        ({"size": np.where(SIZES[2] == SIZES, "1e999", SIZES)}, {}, "feature 4 is inf, not finite"),
        ({"size": np.where(SIZES[2] == SIZES, "tall", SIZES)}, {},
         "line 4 is 'tall' in a column of numbers .allowed: numbers; 1 such cells"),
        ({"size": np.where(SIZES[2] == SIZES, "1_70", SIZES)}, {}, "line 4 is '1_70' in a column"),
        ({"colour": MANY}, {}, "column 'colour' has 48 different words .*config.data.ignore"),
        ({"species": MANY}, {}, "60 different values for 60 examples"),
        ({"species": ["cat"] * COUNT}, {}, "all examples have one label, 'cat'"),
        ({"species": SIZES}, {}, "are float64.*--config.task.name=regression"),
        ({}, {"target": "spezies"}, "target = 'spezies' is unknown; did you mean 'species'"),
        ({}, {"target": "species,age"}, "names 2 columns .*multilabel or regression"),
        ({}, {"ignore": "agge"}, "config.data.ignore = 'agge' is unknown; did you mean 'age'"),
        ({}, {"ignore": "age,colour,size"}, "has no column of inputs"),
    ],
)  # fmt: skip
def test_unfit_columns_are_named_in_a_line(tmp_path, changes, values, message):
    pets(tmp_path / "pets.csv", **changes)
    with pytest.raises(UserError, match=message) as told:
        load(tmp_path / "pets.csv", **values)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("numbers", {}, "'species', line 2 is 'cat' in a column of numbers"),
        ("labels", {}, "'species', line 2 is 'cat' in a column of numbers"),
        ("labels", {"species": AGES}, "label 0 of example 0 is .*allowed: 0 or 1"),
        ("numbers", {"species": holed(SIZES, 1)}, "line 3 is '': no label"),
        ("numbers", {"species": np.where(SIZES[1] == SIZES, "1e60", SIZES)}, "target 0 of example"),
        ("tokens", {}, "'csv' has no labels for config.task.name = 'next_token'"),
    ],
)
def test_unfit_targets_are_named_in_a_line(tmp_path, kind, changes, message):
    pets(tmp_path / "pets.csv", **changes)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "pets.csv", kind, target="species")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 rows"),
        (b"a,b\n", "has 1 rows .allowed: a header"),
        (b"1,2\n3,4\n", "first line holds numbers, 1, 2"),
        (b",b\n3,4\n", "column 1 has no name"),
        (b"a,b,a\n1,2,3\n", "two columns have the name 'a'"),
        (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells .allowed, as the header: 2"),
        (b"a,b\n1,2\n1\n", "line 3 has 1 cells"),
        (b"a,b\n1,\xff\n", "is not UTF-8"),
        ("\ufeffa,b\n1,2\n".encode("utf-16"), "is not UTF-8"),
        (b'a,b\n1,"2\n', "line 2: unexpected end of data"),
        (b'a,b\n1,"2" x\n', "line 2: ',' expected after '\"'"),
        (b"a,b\n" + b"x" * 200_000 + b",2\n", "line 2: field larger"),
        (b"only\n1\n2\n", "has no column of inputs"),
        (None, "no such file"),
    ],
)
def test_a_broken_file_is_named_in_a_line(tmp_path, content, message):
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as told:
        load(path, whole=True)
    assert "\n" not in str(told.value)


def test_marks_and_empty_lines_are_skipped(tmp_path):
    (tmp_path / "x.csv").write_bytes("\ufeffa; y \n\n1;0\n ;\n2;1\n".encode())
    dataset = load(tmp_path / "x.csv", whole=True)
    assert dataset.test.inputs.tolist() == [[1], [2]] and dataset.test.numbers.tolist() == [3, 5]
    with pytest.raises(UserError, match="needs config.data.path"):
        load("")
    with pytest.raises(UserError, match="holds no train.csv"):
        load(tmp_path)


def test_the_name_of_data_follows_from_their_path(tmp_path):
    for name, kind, expected in (
        ("x.csv", "numbers", "csv"), ("x.tsv", "classes", "csv"), ("x.npz", "tokens", "npz"),
        ("x.npz", "labels", "npz"), ("x.txt", "tokens", "text"), ("", "classes", "folder"),
    ):  # fmt: skip
        assert sources.name_of(tmp_path / name, kind) == expected
    pets(tmp_path / "test.csv")
    assert sources.name_of(tmp_path, "classes") == "csv"
