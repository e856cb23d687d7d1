"""From PyTorch to an exact verdict on VTA; needs torch, which is an extra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bench
from bench.evaluate import evaluate
from bench.importers.pytorch import INSTALL, from_pytorch
from bench.passes import float_ends, fuse_vta, graph_pack, quantize, quantize_input
from bench.passes.lift_kernels import bindings_of

ROOT = Path(__file__).parents[2]


def test_without_torch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=f"PyTorch is not installed: {INSTALL}"):
        from_pytorch(None, None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def torch():  # type: ignore[no-untyped-def]
    """PyTorch with its random numbers seeded."""
    module = pytest.importorskip("torch", reason=INSTALL)
    module.manual_seed(0)
    return module


def network(torch, *, outputs: int = 36):  # type: ignore[no-untyped-def]
    """Convolution, batch normalisation and ReLU, with statistics as after a training."""
    nn = torch.nn
    norm = nn.BatchNorm2d(outputs)
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -1, 1)
    return nn.Sequential(nn.Conv2d(3, outputs, 3, 1, 1), norm, nn.ReLU()).eval()


def test_an_imported_network_computes_what_pytorch_does(torch) -> None:  # type: ignore[no-untyped-def]
    model, data = network(torch), torch.randn(1, 3, 4, 4)
    module = from_pytorch(model, data)
    expected = model(data).detach().numpy()
    np.testing.assert_allclose(evaluate(module, data.numpy()), expected, rtol=1e-4, atol=1e-5)
    assert [binding.var.name for binding in bindings_of(module["main"])][:3] == ["conv1", "add1", "relu1"]


def test_the_demonstration_from_pytorch_has_the_known_functions(torch) -> None:  # type: ignore[no-untyped-def]
    data = torch.randn(8, 3, 4, 4)
    module = from_pytorch(network(torch), data[:1])
    quantised = float_ends(quantize(module, data.numpy(), scheme="pow2"))
    fused = fuse_vta(graph_pack(quantised, 1, 16, 8))
    assert {variable.name_hint for variable in fused.functions} == {
        "main",
        "vta_preprocessing__0",
        "vta_reshape_transpose__1",
        "vta_conv2d__2",
        "vta_output__3",
    }
    one = data[:1].numpy()
    np.testing.assert_array_equal(evaluate(fused, one), evaluate(quantised, one))


def test_an_imported_network_is_exact_on_vta(torch) -> None:  # type: ignore[no-untyped-def]
    data = torch.randn(8, 3, 6, 6)
    integers = quantize(from_pytorch(network(torch), data[:1]), data.numpy(), scheme="pow2")
    verdict = bench.run(integers, quantize_input(integers, data[:1].numpy()), "vta")
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    assert [layer.instruction for layer in verdict.layers] == ["GEMM"]


def test_a_model_in_training_mode_is_an_error(torch) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="the model is in training mode"):
        from_pytorch(network(torch).train(), torch.randn(1, 3, 4, 4))


def test_the_example_runs(torch) -> None:  # type: ignore[no-untyped-def]
    command = [sys.executable, str(ROOT / "examples" / "vta_from_pytorch.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "vta_conv2d__2" in done.stdout
    assert "verdict: exact" in done.stdout
