"""Kernels on plain tensors, each beside its plain reference."""
