"""Tensor cores: WMMA intrinsics, schedules of HWNC convolutions and dense layers, CUDA C++ to PTX."""
