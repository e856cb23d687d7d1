"""The machine against the interpreter built from the instruction models, on random programs."""

import numpy as np
import pytest

from simulators.vta import Config, Machine
from simulators.vta.profiles import PROFILES
from tests.simulators.vta_interpreter import Interpreter
from tests.simulators.vta_programs import CONFIGS, Case, config, random_case
from tests.simulators.vta_streams import encoded

DEFAULT_SEEDS = range(8)
ALL_SEEDS = range(1000, 1080)
BACKENDS = [name for name in PROFILES if name != "fsim"]


def check(case: Case, config: Config, profile: str = "fsim") -> dict[str, int]:
    """Both leave the same memories and the same DRAM, and count the same."""
    theirs, ours = case.dram.copy(), case.dram.copy()
    interpreter, machine = Interpreter(config, profile), Machine(config, profile)
    for instruction in case.stream:
        interpreter.execute(instruction, theirs)
    report = machine.run(encoded(case.stream, config), ours)
    errors = {each.kind for each in report.findings if each.severity == "error"}
    # What a backend does with neighbouring iterations or leaves undefined is an error of the program there.
    assert errors <= (set() if profile == "fsim" else {"hazard", "uninitialised"})
    np.testing.assert_array_equal(machine.sram.acc, interpreter.acc)
    np.testing.assert_array_equal(machine.sram.inp.astype(config.inp_dtype), interpreter.inp)
    np.testing.assert_array_equal(machine.sram.wgt.astype(config.wgt_dtype), interpreter.wgt)
    if machine.sram.out is not None:
        np.testing.assert_array_equal(machine.sram.out, interpreter.out)
    np.testing.assert_array_equal(ours, theirs)
    assert report.counters["gemm_counter"] == interpreter.gemm_counter
    assert report.counters["alu_counter"] == interpreter.alu_counter
    return report.counters


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_random_programs_leave_the_same_memories_as_the_models(config):
    counters = [check(random_case(seed, config), config) for seed in DEFAULT_SEEDS]
    assert sum(each["gemm_counter"] for each in counters) > 50
    assert sum(each["alu_counter"] for each in counters) > 50
    assert sum(each["out_store_nbytes"] for each in counters) > 0


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_thousand_random_programs(config):
    for seed in ALL_SEEDS:
        check(random_case(seed, config), config)


def test_there_are_a_hundred_programs_by_default_and_a_thousand_in_all():
    assert len(CONFIGS) * len(DEFAULT_SEEDS) >= 100
    assert len(CONFIGS) * len(ALL_SEEDS) >= 1000


PROFILE_CONFIGS = {"1x16": config(0, 4, 9, 11, 13, 13), "2x32": CONFIGS["2x32"]}


@pytest.mark.parametrize("shape", PROFILE_CONFIGS.values(), ids=PROFILE_CONFIGS)
@pytest.mark.parametrize("profile", BACKENDS)
def test_random_programs_on_every_backend(profile, shape):
    opcodes = 7 if profile == "vtapp" else 5
    for seed in DEFAULT_SEEDS:
        check(random_case(seed, shape, opcodes=opcodes), shape, profile)


@pytest.mark.slow
@pytest.mark.parametrize("shape", PROFILE_CONFIGS.values(), ids=PROFILE_CONFIGS)
@pytest.mark.parametrize("profile", BACKENDS)
def test_many_random_programs_on_every_backend(profile, shape):
    opcodes = 7 if profile == "vtapp" else 5
    for seed in range(2000, 2100):
        check(random_case(seed, shape, opcodes=opcodes), shape, profile)
