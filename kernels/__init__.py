"""What runs on an accelerator: TensorIR intrinsics, schedules and code generators."""
