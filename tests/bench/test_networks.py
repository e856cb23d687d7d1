"""The networks with seeded weights: their shapes, their ranges, and what quantisation leaves of them."""

import itertools
import tracemalloc
from functools import cache

import numpy as np
import pytest
import tvm
from tvm import relax

from bench import workloads
from bench.compare.similarity import cosine_similarity
from bench.evaluate import evaluate, evaluate_all
from bench.evaluate.products import WeightedSums
from bench.flows.flow import TARGETS
from bench.passes import quantize, quantize_input
from bench.passes.quantization.skipping import layers_of
from bench.workload_run import run_workload
from bench.workloads.images import smooth_images

NETWORKS = {
    # name: (shape of the result for 2 images, convolutions and dense layers, multiply-accumulates an image)
    "resnet18": ((2, 1000), 21, 1_814_073_344),
    "resnet50": ((2, 1000), 54, 4_089_184_256),
    "mobilenetv2": ((2, 1000), 53, 300_774_272),
    "unet_small": ((2, 5, 64, 64), 13, None),
    "yolo_head": ((2, 255, 8, 8), 6, None),
}


@cache
def network(name):
    return workloads.load(name, batch=2)


@cache
def floats(name):
    return evaluate_all(network(name).module, network(name).images)


def multiply_accumulates(name):
    """Products of the layers of one image, by the shapes of their weights and results."""
    total = 0
    for block in network(name).module["main"].body.blocks:
        for binding in block.bindings:
            if binding.value.op.name in ("relax.nn.conv2d", "relax.matmul"):
                weight = binding.value.args[1].value.numpy()
                channels = weight.shape[0 if weight.ndim == 4 else 1]
                result = floats(name)[binding.var.name]
                total += weight.size // channels * result[0].size
    return total


# The largest network takes as long as all others together.
SLOW_LAST = [pytest.param(name, marks=[pytest.mark.slow] * (name == "resnet50")) for name in NETWORKS]


@pytest.mark.parametrize("name", SLOW_LAST)
def test_a_network_has_the_shape_that_is_published(name):
    shape, layers, products = NETWORKS[name]
    workload = network(name)
    assert len(layers_of(workload.module["main"])) == layers
    assert list(floats(name).values())[-1].shape == shape
    assert products is None or multiply_accumulates(name) == products
    assert (workload.labels, workload.images.shape[0], workload.images.dtype) == (None, 2, np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_keep_their_range_through_all_layers(name):
    for binding, values in floats(name).items():
        assert 0.05 < values.std() < 5, binding
        assert np.abs(values).max() < 50, binding
        assert np.isfinite(values).all()
        if "relu" in binding:
            # A rectified tensor that is nearly all zeros, or never is, would test little.
            assert 0.1 < (values > 0).mean() < 0.99, binding


@pytest.mark.parametrize("name", NETWORKS)
def test_results_tell_images_apart(name):
    scores = list(floats(name).values())[-1].reshape(2, -1)
    assert np.corrcoef(scores)[0, 1] < 0.9
    assert scores.std(axis=1).min() > 0.1


@pytest.mark.parametrize("scheme", ["fixed", "pow2"])
@pytest.mark.parametrize("name", SLOW_LAST)
def test_quantisation_hardly_turns_the_result(name, scheme):
    workload = network(name)
    module = quantize(workload.module, workload.calibration, scheme=scheme)
    integers = evaluate(module, quantize_input(module, workload.images))
    assert cosine_similarity(list(floats(name).values())[-1], integers) > (
        0.97 if scheme == "fixed" else 0.92
    )


SMALL = {
    "resnet18": {"image": 24, "width": 0.125},
    "resnet50": {"image": 32, "width": 0.125},
    "mobilenetv2": {"image": 32, "width": 0.25},
    "unet_small": {"image": 16},
    "yolo_head": {"image": 24},
}


@cache
def small(name):
    return workloads.load(name, batch=2, **SMALL[name])


@pytest.mark.parametrize("options", [{"data_dtype": "mixed"}, {"scheme": "pow2"}], ids=["mixed", "pow2"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if name in ("resnet18", "resnet50", "mobilenetv2")
        else name
        for name in SMALL
    ],
)
def test_tvm_builds_the_same_integers(name, options):
    workload = small(name)
    module = quantize(workload.module, workload.calibration, **options)
    inputs = quantize_input(module, workload.images)
    expected = evaluate(module, inputs)
    machine = relax.VirtualMachine(relax.build(module, "llvm"), tvm.cpu())
    result = machine["main"](tvm.runtime.tensor(inputs)).numpy()
    assert expected.std() > 5
    np.testing.assert_array_equal(result, expected)


@cache
def int8_resnet50():
    workload = workloads.load("resnet50")
    module = quantize(workload.module, workload.calibration)
    return module, quantize_input(module, workload.images)


@pytest.mark.slow
def test_every_layer_of_resnet50_is_summed_in_a_few_float32_products(monkeypatch):
    """What makes the evaluation of 4.1 G products a matter of seconds."""
    made = []

    class Recorded(WeightedSums):
        def __init__(self, weight, largest):
            super().__init__(weight, largest)
            made.append(self)

    monkeypatch.setattr("bench.evaluate.convolution.WeightedSums", Recorded)
    monkeypatch.setattr("bench.evaluate.products.WeightedSums", Recorded)
    evaluate(*int8_resnet50())
    assert len(made) == 54
    assert all(sums.working is np.float32 for sums in made)
    assert sum(len(sums.slices) for sums in made) <= 60


@pytest.mark.slow
def test_resnet50_is_evaluated_in_little_memory():
    tracemalloc.start()
    evaluate(*int8_resnet50())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**27


def test_mixed_data_have_a_sign_only_where_they_need_one():
    workload = small("mobilenetv2")
    module = quantize(workload.module, workload.calibration, data_dtype="mixed")
    types = {
        binding.var.name: str(binding.var.ty.dtype)
        for block in module["main"].body.blocks
        for binding in block.bindings
    }
    assert types["relu1_requantized"] == types["layer2_0_relu2_requantized"] == "uint8"
    assert types["layer1_0_project_bias_requantized"] == types["layer2_1_residual_requantized"] == "int8"


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SMALL)
def test_a_network_goes_through_every_target(name, target):
    """What a target does not take stays on the host, with the reason; every tensor is compared."""
    verdict = run_workload(small(name), target, "host")
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    assert len(verdict.layers) == NETWORKS[name][1]
    assert all(layer.instruction or layer.why_not for layer in verdict.layers)
    assert sum(bool(layer.instruction) for layer in verdict.layers) > len(verdict.layers) / 3


# --- loading --------------------------------------------------------------------------------------------


def test_weights_do_not_depend_on_the_batch_and_are_the_same_each_time():
    one, three = workloads.load("yolo_head", batch=1), workloads.load("yolo_head", batch=3)
    np.testing.assert_array_equal(one.images, three.images[:1])
    np.testing.assert_allclose(
        evaluate(one.module, one.images), evaluate(three.module, three.images)[:1], rtol=1e-4, atol=1e-4
    )
    tvm.ir.assert_structural_equal(one.module, workloads.load("yolo_head", batch=1).module)


def test_width_thins_the_inner_channels():
    narrow = workloads.load("resnet18", image=32, width=0.25)
    shapes = {name: value.shape for name, value in evaluate_all(narrow.module, narrow.images).items()}
    assert shapes["layer1_0_conv1"] == (1, 16, 8, 8)
    assert shapes["layer4_1_conv2"] == (1, 128, 1, 1)
    assert shapes["dense_bias"] == (1, 1000)


def test_bindings_are_named_after_the_blocks():
    names = list(floats("resnet18"))
    assert names[:4] == ["conv1", "conv1_bias", "relu1", "maxpool"]
    assert {"layer1_0_conv1", "layer1_0_relu1", "layer2_0_downsample", "layer4_1_residual"} <= set(names)
    assert names[-3:] == ["avgpool", "dense", "dense_bias"]


def test_images_are_smooth_and_different():
    images = smooth_images(5, 3, 64, seed=3)
    assert (images.shape, images.dtype) == ((5, 3, 64, 64), np.float32)
    for image in images:
        assert (image.min(), image.max()) == (0, 1)
    np.testing.assert_allclose(images * 255, np.rint(images * 255), atol=1e-4)
    assert np.abs(np.diff(images, axis=3)).mean() < 0.25 * images.std()
    for one, other in itertools.combinations(images, 2):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.9
    np.testing.assert_array_equal(smooth_images(2, 3, 64, seed=3), images[:2])
    assert not np.array_equal(smooth_images(1, 3, 64, seed=4), images[:1])


ERRORS = {
    "image of digits": (("digits", {"image": 32}), "digits takes no option 'image', only batch"),
    "image": (("resnet18", {"image": 30}), "image 30 of resnet18 is not a multiple of 8"),
    "no image": (("unet_small", {"image": 0}), "image 0 of unet_small is not a multiple of 4"),
    "batch": (("yolo_head", {"batch": 0}), "batch 0 of yolo_head is not above 0"),
    "width": (("resnet50", {"width": 0.0}), r"width 0.0 of resnet50 is not in 0\.\.4"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_option(case):
    (name, options), message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        workloads.load(name, **options)


def test_without_labels_there_is_no_accuracy():
    with pytest.raises(ValueError, match="yolo_head has no labels"):
        small("yolo_head").accuracy(np.zeros((2, 255)))


# --- similarity -----------------------------------------------------------------------------------------


def test_the_cosine_is_that_of_the_worst_image():
    one = np.array([[1.0, 0.0], [3.0, 4.0]])
    assert cosine_similarity(one, 7 * one) == pytest.approx(1)
    assert cosine_similarity(one, np.array([[1, 0], [4, 3]])) == pytest.approx(0.96)
    assert cosine_similarity(one, -one) == pytest.approx(-1)
    assert cosine_similarity(one, 0 * one) == 0
    with pytest.raises(ValueError, match=r"shapes \(2, 2\) and \(2, 1\)"):
        cosine_similarity(one, one[:, :1])
