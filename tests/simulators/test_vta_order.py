"""What must have happened before what, against all executions that a stream's tokens permit."""

import numpy as np
import pytest

from simulators.vta import Machine, isa
from simulators.vta.isa import Alu, Finish, Load, Memory, Store
from simulators.vta.order import ENGINES, QUEUES, Links, at_random, engine_first, engine_of, order_of
from tests.simulators.vta_programs import CONFIGS, random_case
from tests.simulators.vta_streams import encoded, serialised

TINY = CONFIGS["1x8"]


def _random_stream(rng: np.random.Generator) -> list[isa.Instruction]:
    """Up to 8 instructions of all engines with tokens at random, some of which may never come."""

    def flag() -> bool:
        return bool(rng.random() < 0.4)

    nothing = {"sram_base": 0, "dram_base": 0, "y_size": 0, "x_size": 0, "x_stride": 0}
    stream: list[isa.Instruction] = []
    for _ in range(int(rng.integers(1, 9))):
        match int(rng.integers(0, 3)):
            case 0:
                stream.append(Load(memory_type=Memory.INP, **nothing, pop_next=flag(), push_next=flag()))
            case 1:
                stream.append(Store(memory_type=Memory.OUT, **nothing, pop_prev=flag(), push_prev=flag()))
            case _:
                names = ("pop_prev", "pop_next", "push_prev", "push_next")
                stream.append(Finish(**{name: flag() for name in names}))
    return stream


def _executions(stream, tokens):
    """All orders in which the engines can execute a stream, as far as it goes."""
    queue_of = {"load": (None, 1, None, 0), "compute": (0, 3, 1, 2), "store": (2, None, 3, None)}

    def queues(each, names):
        found = zip(names, queue_of[engine_of(each)], strict=True)
        return [queue for name, queue in found if getattr(each, name, False) and queue is not None]

    pops = [queues(each, ("pop_prev", "pop_next", "_", "_")) for each in stream]
    pushes = [queues(each, ("_", "_", "push_prev", "push_next")) for each in stream]
    ends = set()

    def go(done: tuple[int, ...], left: tuple[int, ...]) -> None:
        moved = False
        for engine in ENGINES:
            head = next(
                (i for i, each in enumerate(stream) if engine_of(each) == engine and i not in done), None
            )
            if head is None or not all(left[queue] for queue in pops[head]):
                continue
            moved = True
            after = list(left)
            for queue in pops[head]:
                after[queue] -= 1
            for queue in pushes[head]:
                after[queue] += 1
            go((*done, head), tuple(after))
        if not moved:
            ends.add((done, left))

    go((), tuple(tokens))
    return ends


def test_before_is_what_all_executions_have_in_common():
    rng = np.random.default_rng(5)
    ordered = unordered = stuck = 0
    for _ in range(150):
        stream = _random_stream(rng)
        tokens = [int(rng.integers(0, 2)) for _ in QUEUES]
        links = Links.of(isa.encode(stream))
        order = order_of(links, tokens)
        ends = _executions(stream, tokens)
        assert len({(frozenset(done), left) for done, left in ends}) == 1, "the end is always the same"
        assert (tuple(order.sequence), tuple(order.tokens)) in ends
        stuck += bool(order.waiting)
        places = [{each: at for at, each in enumerate(done)} for done, _ in ends]
        for i in order.sequence:
            for j in order.sequence:
                if i == j:
                    continue
                always = all(place[i] < place[j] for place in places)
                said = order.before[j, links.engine[i]] > links.place[i]
                assert said == always, (stream, tokens, i, j)
                ordered, unordered = ordered + always, unordered + (not always)
    assert min(ordered, unordered, stuck) > 50


def test_orders_are_chosen_as_they_say_and_a_seed_repeats_itself():
    stream = [Load(memory_type=Memory.INP, sram_base=0, dram_base=0, y_size=0, x_size=0, x_stride=0)] * 3
    stream = [*stream, Finish(), Finish()]
    links = Links.of(isa.encode(stream))
    none = [0] * 4
    assert order_of(links, none).sequence == [0, 1, 2, 3, 4]
    assert order_of(links, none, engine_first(links, (1, 0, 2))).sequence == [3, 4, 0, 1, 2]
    drawn = [order_of(links, none, at_random(seed)).sequence for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len({tuple(each) for each in drawn}) > 1
    assert all([i for i in each if i < 3] == [0, 1, 2] for each in drawn)


@pytest.mark.parametrize("schedule", ["random", "adversarial"])
def test_another_schedule_gives_the_same_result(schedule):
    case = random_case(3, TINY)
    words = encoded(case.stream, TINY)
    runs = []
    for machine in (Machine(TINY), Machine(TINY, schedule=schedule, seed=4)):
        dram = case.dram.copy()
        runs.append((machine.run(words, dram), dram, machine.sram.acc))
    assert runs[0][0].findings == runs[1][0].findings
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    np.testing.assert_array_equal(runs[0][2], runs[1][2])


def test_serialised_streams_have_one_order():
    stream = serialised([*random_case(1, TINY).stream, Finish()])
    links = Links.of(isa.encode(stream, TINY))
    order = order_of(links, [0] * 4)
    assert order.sequence == list(range(len(stream)))
    assert (order.before.sum(axis=1) == np.arange(len(stream))).all()
    assert not any(isinstance(each, Alu) and each.pop_prev for each in stream[:1])
