"""Hexagon HVX: kernels tensorised with vrmpy, and the ELF that serves them under qemu-hexagon.

One subject a file: `vrmpy` the tensor intrinsics, `conv2d` and `dense` the operators, `build` from TensorIR
to an ELF, `toolchain` the C compiler and linker, `machine_code` the instruction words, `faults` what can be
broken on purpose. `runtime/` is the function server in C.
"""
