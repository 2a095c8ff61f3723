"""PyTorch, eager, written as its users would: data in the device's memory, channels last.

Products may round their factors to TensorFloat-32 on a GPU, as JAX does there unasked.
"""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.workloads import Workload, make_data

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Block(nn.Module):
    """The basic block of a CIFAR ResNet with shortcuts of zeros (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(x + y)


def mlp(units) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = 784
    for outputs in units:
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def cnn(channels, dropout: float) -> nn.Module:
    layers: list[nn.Module] = []
    inputs = 1
    for outputs in channels:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        inputs = outputs
    side = 28 // 2 ** len(channels)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(inputs * side**2, 10)
    )


def resnet(depth: int) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
    ]  # fmt: skip
    inputs = 16
    for stage in range(3):
        for number in range((depth - 2) // 6):
            outputs = 16 * 2**stage
            layers.append(Block(inputs, outputs, 2 if stage and not number else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def augment(x):
    """Flips and crops of up to 4 pixels, each image its own, on the whole batch at once."""
    batch, _, height, width = x.shape
    flips = torch.rand(batch, 1, 1, 1, device=DEVICE) < 0.5
    x = torch.where(flips, x.flip(3), x)
    padded = F.pad(x, (4, 4, 4, 4), mode="reflect").permute(0, 2, 3, 1)
    rows = torch.randint(0, 9, (batch, 1), device=DEVICE) + torch.arange(height, device=DEVICE)
    columns = torch.randint(0, 9, (batch, 1), device=DEVICE) + torch.arange(width, device=DEVICE)
    images = torch.arange(batch, device=DEVICE)
    cut = padded[images[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2)


def prepare(workload: Workload, compiled: bool = False):
    """Returns a function that trains for one round and returns the last loss."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    config = workload.build_config()
    images, labels = make_data(workload)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).to(DEVICE)  # channels last already
    targets = torch.from_numpy(labels).long().to(DEVICE)
    mean, deviation = images.mean() / 255, images.std() / 255
    if config.model.name == "mlp":
        model = mlp(config.model.hidden)
    elif config.model.name == "cnn":
        model = cnn(config.model.channels, config.model.dropout_rate)
    else:
        model = resnet(config.model.depth)
    model = model.to(DEVICE, memory_format=torch.channels_last)
    if compiled:
        model = torch.compile(model, mode="reduce-overhead")
    if config.optimizer.name == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=config.optimizer.learning_rate)
    else:
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=config.optimizer.learning_rate,
            momentum=0.9,
            weight_decay=config.loss.l2,
        )

    def round_() -> float:
        model.train()
        order = torch.randperm(len(targets), device=DEVICE)
        for step in range(workload.steps):
            index = order[step * workload.batch_size : (step + 1) * workload.batch_size]
            x = (inputs[index].float() / 255 - mean) / deviation
            if config.augmentation.names:
                x = augment(x)
            loss = F.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)),
                                   targets[index])  # fmt: skip
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return round_
