"""The order in which divided threads run, so that they meet where their paths join.

Threads that a branch divided can go on together from its immediate post-dominator: the first instruction that
every path from the branch leads to. A compiler may place it anywhere in the text. Here every instruction gets
a rank such that, loops being left aside, it ranks below all that it can reach, and such that the instructions
of a loop stand together, below those that follow it. If the threads with the lowest rank always run first,
those that wait at a join are not passed by others that may still come to it, so all meet there.

That order is a weak topological order (F. Bourdoncle, "Efficient chaotic iteration strategies with
widenings", 1993): strongly connected components of the flow graph in topological order, and within each the
same again without the edges back to its first block.
"""

from collections.abc import Callable, Iterable

Successors = Callable[[int], Iterable[int]]


def ranks(successors: list[tuple[int, ...]]) -> list[int]:
    """Rank the instructions of a kernel, 0 first; `successors` are where each may go on to."""
    leaders = {0, *(s for here, after in enumerate(successors) for s in after if after != (here + 1,))}
    leaders |= {here + 1 for here, after in enumerate(successors[:-1]) if after != (here + 1,)}
    starts = sorted(leaders)
    ends = [*starts[1:], len(successors)]
    blocks = dict(zip(starts, ends, strict=True))
    order = _ordered(starts, 0, lambda start: successors[blocks[start] - 1])
    # What cannot be reached has no place in the order; any will do.
    reached = set(order)
    order += [start for start in starts if start not in reached]
    found = [0] * len(successors)
    for rank, instruction in enumerate(i for start in order for i in range(start, blocks[start])):
        found[instruction] = rank
    return found


def _ordered(nodes: Iterable[int], entry: int, successors: Successors) -> list[int]:
    """Order the nodes that can be reached from `entry`, which comes first."""
    inside = set(nodes)
    order: list[int] = []
    for component in _components(entry, inside, successors):
        head, *rest = component
        if rest:
            # Without the edges to its head the component falls apart into what can be ordered in turn.
            members = set(component)

            def within(node: int, head: int = head, members: set[int] = members) -> list[int]:
                return [s for s in successors(node) if s in members and s != head]

            order += _ordered(members, head, within)
        else:
            order.append(head)
    return order


def _components(entry: int, inside: set[int], successors: Successors) -> list[list[int]]:
    """Find the strongly connected components in topological order, each with the node first met in front.

    R. Tarjan's algorithm, with a stack of its own: long kernels have paths beyond Python's recursion limit.
    """
    number: dict[int, int] = {}
    low: dict[int, int] = {}
    open_nodes: list[int] = []
    is_open: set[int] = set()
    found: list[list[int]] = []

    def enter(node: int) -> tuple[int, Iterable[int]]:
        number[node] = low[node] = len(number)
        open_nodes.append(node)
        is_open.add(node)
        return node, iter([s for s in successors(node) if s in inside])

    path = [enter(entry)]
    while path:
        node, rest = path[-1]
        following = next(iter(rest), None)
        if following is None:
            path.pop()
            if path:
                low[path[-1][0]] = min(low[path[-1][0]], low[node])
            if low[node] == number[node]:
                component = [open_nodes.pop()]
                while component[-1] != node:
                    component.append(open_nodes.pop())
                is_open.difference_update(component)
                found.append(component[::-1])
        elif following not in number:
            path.append(enter(following))
        elif following in is_open:
            low[node] = min(low[node], number[following])
    return found[::-1]
