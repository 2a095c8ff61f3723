"""A slot of a population: what stands in it, and what it reports, as plain records."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Report:
    """A slot at the end of a piece; the lists have an entry for each of its lanes."""

    step: int
    epoch: float
    train_loss: list[float]  # means over the piece, before each update
    train_accuracy: list[float]
    validation_loss: list[float]  # over the whole validation split, by the weights now
    validation_accuracy: list[float]
    finite: bool  # all numbers of all lanes


@dataclasses.dataclass(frozen=True)
class Occupant:
    """What stands in a slot."""

    values: dict[str, float]
    pieces: int
    done: int  # pieces


@dataclasses.dataclass(frozen=True)
class Parked:
    """A slot's content, on the host."""

    occupant: Occupant
    states: list[dict[str, np.ndarray]]  # of its lanes, packed
