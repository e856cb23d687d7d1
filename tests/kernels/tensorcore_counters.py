"""Print what the kernels of the workloads cost, as the table in docs/tensorcore.md.

python -m tests.kernels.tensorcore_counters
"""

from tests.kernels.test_tensorcore_workloads import WORKLOADS, execute


def row(name, counters):
    """One line of the table."""
    products = counters["tensor_instructions"]
    moved = counters["global_load_bytes"] + counters["global_store_bytes"]
    return (
        f"| {name} | {products:,} | {counters['warp_instructions'] / products:.2f} "
        f"| {moved / counters['global_compulsory_bytes']:.2f} "
        f"| {100 * counters['shared_bank_conflicts'] / counters['shared_transactions']:.1f} % |"
    )


if __name__ == "__main__":
    for name, conv in WORKLOADS.items():
        print(row(name, execute(conv)), flush=True)
