"""The main job on digits as a PyTorch script of one file would do it: no report, no checkpoints."""

import sys

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


def main() -> None:
    torch.manual_seed(0)
    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
    digits = load_digits()
    inputs = torch.tensor(digits.data, dtype=torch.float32) / 16
    inputs = (inputs - inputs.mean()) / inputs.std()
    labels = torch.tensor(digits.target)
    test, validation = torch.arange(0, 355), torch.arange(355, 499)
    train = torch.arange(499, len(labels))
    model = nn.Sequential(
        nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 304)
    steps = 0
    while steps < 304:
        for index in train[torch.randperm(len(train))].split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[index]), labels[index]).backward()
            optimizer.step()
            schedule.step()
            steps += 1
            if steps == 1:
                print("step 1", file=sys.stderr, flush=True)
        print(accuracy(model, inputs[validation], labels[validation]))
    print("test", accuracy(model, inputs[test], labels[test]))


def accuracy(model, inputs, labels) -> float:
    model.eval()
    with torch.no_grad():
        right = (model(inputs).argmax(1) == labels).float().mean().item()
    model.train()
    return right


if __name__ == "__main__":
    main()
