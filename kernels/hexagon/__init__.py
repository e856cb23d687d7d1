"""Hexagon HVX: kernels tensorised with vrmpy, and the ELF that serves them under qemu-hexagon.

One subject a file. `vrmpy` is the tensor instruction; `conv2d`, `dense`, `depthwise`, `requantize`,
`elementwise`, `max_pool` and `movement` are the operators, of which `operators` is the table. They are
written with `loop_nest`, `tile`, `image` and `wide`, for any CPU with `plain`. `build` goes from TensorIR to
an ELF; `toolchain` is the C compiler and linker, `object_cache` where objects are kept, `architectures` the versions
of Hexagon, `machine_code` the instruction words, `faults` what can be broken on purpose. `runtime/` is C: the
function server, and the instructions for the host.
"""
