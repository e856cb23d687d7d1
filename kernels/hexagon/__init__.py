"""Hexagon HVX: kernels tensorised with vrmpy, and the ELF that serves them under qemu-hexagon.

One subject a file:

- the tensor instruction: `vrmpy`;
- the operators: `conv2d`, `dense`, `depthwise`, `requantize`, `elementwise`, `max_pool`, `movement`, and
  `operators`, the table of them;
- what they are written with: `loop_nest`, `tile`, `image`, `wide`, and `plain` for any CPU;
- from TensorIR to an ELF: `build`, `toolchain`, `object_cache`, `architectures`, and `runtime/` in C, the
  function server and the instructions for the host;
- instruction words and what can be broken on purpose: `machine_code`, `faults`.
"""
