"""A CUDA device without a GPU: the trainer's CUDA path runs on tensors that have everything but numbers.

`FakeTensorMode` gives every tensor its shape, strides, dtype, device and autograd graph. `rig` adds what a CPU build
of torch lacks (`guard.cpp`) and stands in for the few functions of torch.cuda that the trainer calls; `meter` watches
every kernel. `client` starts a process with all of this, whose forked children run one task of `tasks` each.
"""
