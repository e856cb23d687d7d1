"""What the reference evaluation costs: a network in NumPy, plain and through the models of the instructions.

`python -m tests.bench.reference_speed resnet18 224 tensorcore` prints processor seconds;
OPENBLAS_NUM_THREADS=1 keeps the matrix products to one core.
"""

import sys
import time

from bench import workloads
from bench.evaluate import evaluate_all
from bench.flows.flow import flow_for
from bench.passes.quantize import quantize, quantize_input


def main(name: str, image: str, target: str) -> None:
    workload = workloads.load(name, image=int(image))
    flow = flow_for(target)
    module = quantize(workload.module, workload.calibration, scheme=flow.scheme, data_dtype=flow.data_dtype)
    inputs = quantize_input(module, workload.images)
    transformed = flow.transform(module)
    for what, graph, overrides in (
        ("integer graph", module, None),
        ("transformed graph, operators", transformed.mod, None),
        ("transformed graph, instructions", transformed.mod, flow.overrides),
    ):
        started = time.process_time()
        evaluate_all(graph, inputs, overrides=overrides)
        print(f"{what}: {time.process_time() - started:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
