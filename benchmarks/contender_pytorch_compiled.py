"""PyTorch with the model compiled by `torch.compile`, in the mode that asks for CUDA graphs."""

import functools

from benchmarks import contender_pytorch

prepare = functools.partial(contender_pytorch.prepare, compiled=True)
