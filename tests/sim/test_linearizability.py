"""The checker of histories, against one that tries every order."""

from collections.abc import Sequence
from itertools import combinations, permutations
from random import Random

from raftwright.sim.linearizability import Operation, is_linearizable


def is_linearizable_dumb(operations: Sequence[Operation]) -> bool:
    certain = [operation for operation in operations if operation.certain]
    rest = [operation for operation in operations if not operation.certain]
    chosen = (certain + list(some) for size in range(len(rest) + 1) for some in combinations(rest, size))
    return any(_explains(order) for each in chosen for order in permutations(each))


def _explains(order: Sequence[Operation]) -> bool:
    value: bytes | None = None
    for position, operation in enumerate(order):
        if any(later.end < operation.begin for later in order[position + 1 :]) or not operation.fits(value):
            return False
        value = operation.set if operation.sets else value
    return True


def draw(random: Random) -> list[Operation]:
    operations = []
    for number in range(random.randint(1, 6)):
        begin = random.uniform(0, 4)
        value = random.choice((None, b"a", b"b"))
        basis = Operation(name=str(number), begin=begin, end=begin + random.uniform(0, 3))
        kind = random.choice(("read", "write", "swap", "delete", "lost"))
        operations.append(
            {
                "read": Operation(name=basis.name, begin=begin, end=basis.end, sees=True, saw=value),
                "write": Operation(name=basis.name, begin=begin, end=basis.end, sets=True, set=value),
                "swap": Operation(
                    name=basis.name, begin=begin, end=basis.end, sees=True, saw=value, sets=True, set=b"c"
                ),
                "delete": Operation(
                    name=basis.name, begin=begin, end=basis.end, sees_something=True, sets=True, set=None
                ),
                "lost": Operation(name=basis.name, begin=begin, end=float("inf"), sets=True, set=value, certain=False),
            }[kind]
        )
    return operations


def test_it_judges_as_one_does_that_tries_every_order() -> None:
    verdicts = set()
    for seed in range(1500):
        operations = draw(Random(seed))
        verdict = is_linearizable(operations)
        assert verdict == is_linearizable_dumb(operations), operations
        verdicts.add(verdict)
    assert verdicts == {True, False}


def test_a_read_may_not_go_back_in_time() -> None:
    history = [
        Operation(name="w1", begin=0, end=1, sets=True, set=b"a"),
        Operation(name="w2", begin=2, end=3, sets=True, set=b"b"),
        Operation(name="r", begin=4, end=5, sees=True, saw=b"a"),
    ]
    assert not is_linearizable(history)
    assert is_linearizable([*history[:1], Operation(name="w2", begin=2, end=9, sets=True, set=b"b"), history[2]])
