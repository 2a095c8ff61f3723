"""PyTorch with the model compiled by `torch.compile`: into CUDA graphs, where there is a GPU."""

import functools

from benchmarks import contender_pytorch

prepare = functools.partial(contender_pytorch.prepare, compiled=True)
