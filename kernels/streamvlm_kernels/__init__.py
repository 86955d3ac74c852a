"""Kernels that know tensors and nothing else, each beside its plain PyTorch reference.

Empty today: everything runs on PyTorch's own operations, and a kernel earns its place by a profile.
"""
