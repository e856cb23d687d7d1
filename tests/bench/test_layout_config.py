"""LayoutConfig is a scope: it nests, can be entered again, and is forgotten outside."""

import threading

import pytest
from tvm import relax

from bench.passes import LayoutConfig, convert_layout
from tests.bench.integer_graphs import module_of

op = relax.op
HWNC = {"relax.nn.conv2d": ["HWNC", "default"]}


def convolutions(count: int):  # type: ignore[no-untyped-def]
    """That many NHWC convolutions in a row."""

    def build(emit, data, weight):  # type: ignore[no-untyped-def]
        for number in range(count):
            data = emit(
                f"conv{number}",
                op.nn.conv2d(data, weight, padding=1, data_layout="NHWC", kernel_layout="HWIO"),
            )
        return data

    return module_of({"data": ((1, 6, 6, 4), "float32"), "weight": ((3, 3, 4, 4), "float32")}, build)


def layouts(module) -> list[str]:  # type: ignore[no-untyped-def]
    """Data layouts of the convolutions after a conversion."""
    function = convert_layout(module, HWNC)["main"]
    calls = [binding.value for block in function.body.blocks for binding in block.bindings]
    return [
        str(call.attrs.data_layout)
        for call in calls
        if isinstance(call, relax.Call) and call.op.name == "relax.nn.conv2d"
    ]


SKIPS = [
    ([], ["HWNC", "HWNC", "HWNC"]),
    (None, ["HWNC", "HWNC", "HWNC"]),
    ([0], ["NHWC", "HWNC", "HWNC"]),
    ([-1], ["HWNC", "HWNC", "NHWC"]),
    ([1, -2, 1], ["HWNC", "NHWC", "HWNC"]),
    ([0, 1, 2], ["NHWC", "NHWC", "NHWC"]),
]


@pytest.mark.parametrize(("skip", "expected"), SKIPS, ids=str)
def test_skipped_layers_keep_their_layout(skip, expected) -> None:  # type: ignore[no-untyped-def]
    with LayoutConfig(skip_layers=skip) as config:
        assert layouts(convolutions(3)) == expected
    assert [entry.data_layout for entry in config.report] == expected
    assert [entry.index for entry in config.report] == [0, 1, 2]


def test_the_inner_scope_counts_and_the_outer_one_comes_back() -> None:
    module = convolutions(2)
    with LayoutConfig([0]) as outer:
        with LayoutConfig([1]) as inner:
            assert LayoutConfig.current() is inner
            assert layouts(module) == ["HWNC", "NHWC"]
        assert LayoutConfig.current() is outer
        assert layouts(module) == ["NHWC", "HWNC"]
    assert LayoutConfig.current() is None
    assert layouts(module) == ["HWNC", "HWNC"]


def test_a_scope_counts_afresh_whenever_it_is_used() -> None:
    config = LayoutConfig([0])
    for _ in range(2):
        with config:
            assert layouts(convolutions(2)) == ["NHWC", "HWNC"]
            assert layouts(convolutions(3)) == ["NHWC", "HWNC", "HWNC"]


def test_a_scope_can_be_entered_inside_itself() -> None:
    config, other = LayoutConfig([0]), LayoutConfig([1])
    with config, other, config:
        assert LayoutConfig.current() is config
        assert layouts(convolutions(2)) == ["NHWC", "HWNC"]
    with config, config:
        pass
    assert LayoutConfig.current() is None


def test_an_error_leaves_the_scope() -> None:
    with pytest.raises(RuntimeError, match="inside"), LayoutConfig([0]):
        raise RuntimeError("inside")
    assert LayoutConfig.current() is None


def test_another_thread_does_not_see_the_scope() -> None:
    seen = []
    with LayoutConfig([0]):
        thread = threading.Thread(target=lambda: seen.append(LayoutConfig.current()))
        thread.start()
        thread.join()
    assert seen == [None]


@pytest.mark.parametrize("index", [2, -3])
def test_an_index_out_of_range_names_the_range(index: int) -> None:
    with LayoutConfig([index]), pytest.raises(IndexError, match=rf"layer {index} is out .* is -2\.\.1"):
        layouts(convolutions(2))


def test_the_list_of_the_caller_is_not_changed() -> None:
    skip = [-1]
    with LayoutConfig(skip):
        layouts(convolutions(2))
        assert layouts(convolutions(3)) == ["HWNC", "HWNC", "NHWC"]
    assert skip == [-1]
