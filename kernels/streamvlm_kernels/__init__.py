"""Kernels that know tensors and nothing else, each beside its plain reference."""
