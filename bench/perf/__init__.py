"""How fast the bench is beside what a user would take instead, and what its kernels cost by counters."""
