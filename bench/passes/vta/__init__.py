"""VTA: what stands behind graph packing - layers, what stays packed between them, constants and the ALU."""
