"""Tensor cores: integer layers for wmma and mma.sync, their schedule, CUDA C++ to PTX."""
