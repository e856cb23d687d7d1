"""A local GPU through the CUDA driver API: the binding, the device, and the question whether one is here."""
