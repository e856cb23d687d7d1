"""The digits workload: its data, its float network and its accuracy."""

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

from bench import workloads
from bench.evaluate import evaluate, evaluate_all
from bench.workloads import digits

DATA = Path(digits.__file__).with_name("digits.npz")


@pytest.fixture(scope="module")
def workload():
    return workloads.load("digits")


def test_names():
    assert workloads.names() == (
        *("digits", "mobilenetv2", "resnet18", "resnet50", "unet_small", "yolo_head"),
    )


def test_what_a_workload_holds(workload):
    assert workload.name == "digits"
    assert (workload.images.shape, workload.images.dtype) == ((256, 1, 8, 8), np.float32)
    assert (workload.labels.shape, workload.labels.dtype) == ((256,), np.int64)
    assert (workload.calibration.shape, workload.calibration.dtype) == ((64, 1, 8, 8), np.float32)
    assert set(np.unique(workload.images * 16)) == set(range(17))
    # Every class is there, and no class by much more than its share.
    assert np.bincount(workload.labels, minlength=10).min() >= 15


def test_no_calibration_image_is_a_test_image(workload):
    test = {image.tobytes() for image in workload.images}
    assert not any(image.tobytes() in test for image in workload.calibration)


def test_the_data_are_small_and_their_source_is_named():
    assert DATA.stat().st_size < 200_000
    readme = DATA.with_name("README.md").read_text()
    assert "CC BY 4.0" in readme
    assert "10.24432/C50P49" in readme


def test_bindings_are_named_after_the_layers(workload):
    assert list(evaluate_all(workload.module, workload.images)) == [
        *("conv1", "conv1_bias", "relu1"),
        *("conv2", "conv2_bias", "relu2"),
        *("conv3", "conv3_bias", "residual", "relu3"),
        *("conv4", "conv4_bias", "relu4"),
        *("pool", "dense", "dense_bias"),
    ]


def test_the_float_network_is_right_on_98_percent(workload):
    logits = evaluate(workload.module, workload.images)
    assert workload.accuracy(logits) >= 0.98
    assert workload.accuracy(np.roll(logits, 1, axis=1)) < 0.1


def test_tvm_computes_the_float_network_alike(workload):
    machine = relax.VirtualMachine(relax.build(workload.module, "llvm"), tvm.cpu())
    logits = machine["main"](tvm.runtime.tensor(workload.images)).numpy()
    np.testing.assert_allclose(evaluate(workload.module, workload.images), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 8, 100])
def test_a_smaller_batch_is_the_first_images(workload, batch):
    small = workloads.load("digits", batch=batch)
    np.testing.assert_array_equal(small.images, workload.images[:batch])
    assert evaluate(small.module, small.images).shape == (batch, 10)
    assert len(small.calibration) == 64


def test_errors():
    with pytest.raises(ValueError, match="no workload 'resnet'; there is digits, mobilenetv2"):
        workloads.load("resnet")
    with pytest.raises(ValueError, match=r"batch 257 of digits is not in 1\.\.256"):
        workloads.load("digits", batch=257)
    with pytest.raises(ValueError, match="batch 0 of digits"):
        workloads.load("digits", batch=0)
    with pytest.raises(ValueError, match=r"scores of shape \(3, 10\) are not those of 1 images"):
        workloads.load("digits", batch=1).accuracy(np.zeros((3, 10)))
