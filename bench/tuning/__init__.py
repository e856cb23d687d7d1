"""Tuning of tensor-core kernels: TVM's MetaSchedule searches, the PTX machine measures."""
