"""The machines: instruction models in NumPy, and simulators. Nothing here imports TVM."""
