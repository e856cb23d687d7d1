"""Which instructions a stream's tokens order, and which of the unordered ones touch the same elements.

An analysis of its own: elements are Python sets, one instruction after the other and every pair of them, and
the tokens are matched by counting. Nothing here is used to make a program.
"""

from dataclasses import replace

from simulators.vta import isa
from simulators.vta.machine import ENGINES, engine_of, queues_of

FLAGS = ("pop_prev", "pop_next", "push_prev", "push_next")


def touched(instruction, uops, config):
    """(reads, writes) of an instruction as sets of (memory, element)."""
    match instruction:
        case isa.Load() | isa.Store() if instruction.x_size:
            memory = isa.Memory(instruction.memory_type)
            unit = {
                isa.Memory.UOP: 4,
                isa.Memory.WGT: config.wgt_bytes,
                isa.Memory.ACC: config.acc_bytes,
            }.get(memory, config.inp_bytes)
            rows = [instruction.dram_base + row * instruction.x_stride for row in range(instruction.y_size)]
            dram = {
                ("dram", byte)
                for row in rows
                for byte in range(row * unit, (row + instruction.x_size) * unit, 4)
            }
            wide = instruction.x_pad_0 + instruction.x_size + instruction.x_pad_1
            high = instruction.y_pad_0 + instruction.y_size + instruction.y_pad_1
            name = "ACC" if memory in (isa.Memory.OUT, isa.Memory.ACC_8BIT) else memory.name
            sram = {(name, instruction.sram_base + place) for place in range(wide * high)}
            return (dram, sram) if isinstance(instruction, isa.Load) else (sram, dram)
        case isa.Gemm() | isa.Alu():
            reads, writes = set(), set()
            for out in range(instruction.iter_out):
                for inner in range(instruction.iter_in):
                    for uop in uops[instruction.uop_bgn : instruction.uop_end]:
                        dst = uop.dst + out * instruction.dst_out + inner * instruction.dst_in
                        src = uop.src + out * instruction.src_out + inner * instruction.src_in
                        writes.add(("ACC", dst))
                        if isinstance(instruction, isa.Alu):
                            reads |= {("ACC", dst), ("ACC", src)}
                        elif not instruction.reset:
                            wgt = uop.wgt + out * instruction.wgt_out + inner * instruction.wgt_in
                            reads |= {("ACC", dst), ("INP", src), ("WGT", wgt)}
            return reads, writes
        case _:
            return set(), set()


def touched_by(program):
    """`touched` of each instruction of a program, with the micro-ops that lie in UOP when it is executed."""
    table = next(each for each in program.buffers if each.role == "uop")
    stored = isa.decode_uops(program.uops, program.config)
    resident = [isa.Uop(0, 0)] * program.config.uop_depth
    found = []
    for instruction in isa.decode(program.insns, program.config):
        if isinstance(instruction, isa.Load) and instruction.memory_type == isa.Memory.UOP:
            first = instruction.dram_base - table.address // 4
            place = instruction.sram_base
            resident[place : place + instruction.x_size] = stored[first : first + instruction.x_size]
        found.append(touched(instruction, resident, program.config))
    return found


def follows(instructions):
    """For each instruction, how many of each engine's instructions are certainly done before it starts.

    The nth token that a queue gives is the nth that was put into it.
    """
    done = []
    behind = {engine: dict.fromkeys(ENGINES, 0) for engine in ENGINES}
    tokens = {}
    taken = {}
    for instruction in instructions:
        engine = engine_of(instruction)
        clock = dict(behind[engine])
        pops, pushes = queues_of(instruction)
        for queue in pops:
            count = taken[queue] = taken.get(queue, 0) + 1
            clock = {each: max(clock[each], tokens[queue][count - 1][each]) for each in ENGINES}
        done.append(clock)
        after = {**clock, engine: clock[engine] + 1}
        behind[engine] = after
        for queue in pushes:
            tokens.setdefault(queue, []).append(after)
    return done


def unordered(instructions, touches):
    """Pairs of places whose instructions touch the same element, one of them writing, in no certain order."""
    done = follows(instructions)
    count = dict.fromkeys(ENGINES, 0)
    place_on_engine = []
    for each in instructions:
        place_on_engine.append(count[engine_of(each)])
        count[engine_of(each)] += 1
    pairs = []
    for second, (reads, writes) in enumerate(touches):
        for first in range(second):
            engine = engine_of(instructions[first])
            if engine == engine_of(instructions[second]) or done[second][engine] > place_on_engine[first]:
                continue
            earlier_reads, earlier_writes = touches[first]
            if not (writes.isdisjoint(earlier_reads | earlier_writes) and reads.isdisjoint(earlier_writes)):
                pairs.append((first, second))
    return pairs


def without_token(instructions, push):
    """The stream without the token that instruction `push` = (place, flag) puts, and without its pop."""
    place, flag = push
    queue = queue_of(instructions[place], flag)
    number = sum(queue_of(each, flag) == queue for each in instructions[:place] if getattr(each, flag))
    wanted = "pop_prev" if flag == "push_next" else "pop_next"
    poppers = [
        index
        for index, each in enumerate(instructions)
        if getattr(each, wanted) and queue in queues_of(each)[0]
    ]
    changed = list(instructions)
    changed[place] = replace(changed[place], **{flag: False})
    changed[poppers[number]] = replace(changed[poppers[number]], **{wanted: False})
    return changed


def queue_of(instruction, flag):
    line = ("none", *ENGINES, "none")
    here = line.index(engine_of(instruction))
    return line[here], line[here + (1 if flag == "push_next" else -1)]


def pushes_of(instructions):
    return [
        (place, flag)
        for place, each in enumerate(instructions)
        for flag in ("push_prev", "push_next")
        if getattr(each, flag)
    ]
