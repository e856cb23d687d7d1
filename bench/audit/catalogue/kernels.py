"""Faults in schedules and code generators: what is compiled is another kernel than the one described."""

from __future__ import annotations

from functools import partial

from bench.audit.planting import text_fault

_fault = partial(text_fault, "kernel")

FAULTS = [
    _fault(
        "tensorcore-padding-from-row-one",
        "the predicate that guards padding takes the first row of the image for padding",
        "device-agrees/tensorcore",
        function="kernels.tensorcore.conv2d:conv2d_primfunc",
        old="y >= top",
        new="y > top",
    ),
    _fault(
        "tensorcore-bias-of-the-neighbour",
        "a kernel adds the bias of the channel before",
        "device-agrees/tensorcore",
        function="kernels.tensorcore.epilogue:Epilogue.applied",
        old="waiting.pop(0)[channel])",
        new="waiting.pop(0)[(*channel[:-1], tirx.max(channel[-1] - 1, 0))])",
    ),
    _fault(
        "tensorcore-rounds-down",
        "a kernel's requantisation leaves out the half that rounds to the nearest",
        "device-agrees/tensorcore",
        function="kernels.tensorcore.epilogue:_requantized",
        old="+ half) >> right",
        new=") >> right",
    ),
    _fault(
        "tensorcore-zero-point-off",
        "a kernel requantises to a zero point one too high",
        "device-agrees/tensorcore",
        function="bench.flows.tensorcore_epilogue:_requantize",
        old='"zero_point": attributes["zero_point"]',
        new='"zero_point": attributes["zero_point"] + 1',
    ),
    _fault(
        "hexagon-padding-one-column-left",
        "images are copied into their padding one column too far to the left",
        "device-agrees/hexagon",
        function="kernels.hexagon.image:pad_image",
        old="* padded_width + left) * lanes // 4",
        new="* padded_width + max(left - 1, 0)) * lanes // 4",
    ),
    _fault(
        "hexagon-window-one-row-short",
        "the compensating sums of signed weights are of windows one row short",
        "device-agrees/hexagon",
        function="kernels.hexagon.image:PixelSums.__init__",
        old="vectors, kernel[0], dilation[0]",
        new="vectors, kernel[0] - 1, dilation[0]",
    ),
    _fault(
        "hexagon-weight-of-the-next-word",
        "a tile multiplies each word of data with the weights of the word behind it",
        "device-agrees/hexagon",
        function="kernels.hexagon.tile:accumulate",
        old="(word + part) * WORDS",
        new="(word + (part + 1) % at_once) * WORDS",
    ),
    _fault(
        "hexagon-packs-halves-exchanged",
        "requantised words are packed to halfwords with each two vectors exchanged",
        "device-agrees/hexagon",
        function="kernels.hexagon.requantize:_Writer.packed",
        old='"vpackwh.sat", high, low',
        new='"vpackwh.sat", low, high',
    ),
    _fault(
        "vta-min-becomes-max",
        "an upper limit in an epilogue is generated as a lower one",
        "device-agrees/vta",
        function="kernels.vta.epilogue:_step",
        old="AluOpcode[operation.upper()]",
        new='AluOpcode[operation.upper().replace("MIN", "MAX")]',
    ),
    _fault(
        "vta-last-step-lost",
        "the last ALU step of an epilogue is not generated",
        "device-agrees/vta",
        function="bench.flows.vta_epilogue:epilogue_of",
        old="bindings_of(kernel.function)[1:])",
        new="bindings_of(kernel.function)[1:])[:-1]",
    ),
    _fault(
        "vta-gemm-does-not-wait",
        "the program leaves out the tokens with which compute waits for load",
        "machine-findings/vta",
        function="kernels.vta.dependencies:_Stream.finished",
        old="if first > latest:",
        new='if first > latest and (source, target) != ("load", "compute"):',
    ),
    _fault(
        "vta-load-does-not-wait",
        "the program leaves out the tokens with which load waits for compute",
        "machine-findings/vta",
        function="kernels.vta.dependencies:_Stream.finished",
        old="if first > latest:",
        new='if first > latest and (source, target) != ("compute", "load"):',
    ),
    _fault(
        "vta-store-does-not-wait",
        "the program leaves out the tokens with which store waits for compute",
        "machine-findings/vta",
        function="kernels.vta.dependencies:_Stream.finished",
        old="if first > latest:",
        new='if first > latest and (source, target) != ("compute", "store"):',
    ),
]
