"""Visitors take turns in a lane, and each sees how many runs come first."""

from __future__ import annotations

from fovea.engine.store import Store
from fovea.engine.work import queue, worker
from fovea.engine.work.runs import next_turn, repeat, submit
from tests.engine import fakes


def asked(owner: str, seed: int) -> str:
    return submit(fakes.request().model_copy(update={"seed": seed}), lane="interactive", owner=owner)


def test_whoever_asks_for_one_run_does_not_wait_for_anothers_hundred(store: Store) -> None:
    ann = [asked("ann", seed) for seed in range(5)]
    bob = [asked("bob", seed) for seed in range(10, 12)]
    order = [ann[0], bob[0], ann[1], bob[1], ann[2], ann[3], ann[4]]
    assert [run_id for run_id, _ in queue.waiting("interactive")] == order
    for place, run_id in enumerate(order):
        live = store.live(run_id)
        assert live is not None
        assert live.ahead == place
    huey, _ = queue._huey(store.home, "interactive", False)
    for _ in range(2):  # ann's first and bob's first are taken
        store.cancel(str(huey.dequeue().args[1]))
    cat = asked("cat", 20)
    assert [run_id for run_id, _ in queue.waiting("interactive")] == [ann[1], bob[1], cat, *ann[2:]]
    assert store.run(cat).record.owner == "cat"
    assert {row.owner for row in store.list(status="queued")} == {"ann", "bob", "cat"}
    assert store.count(owner="ann", status="queued") == 4


def test_one_visitors_runs_stay_in_their_order(store: Store) -> None:
    runs = [asked("", seed) for seed in range(5)]
    assert [run_id for run_id, _ in queue.waiting("interactive")] == runs


def test_turns_survive_a_restart(store: Store) -> None:
    ann = [asked("ann", seed) for seed in range(3)]
    bob = asked("bob", 10)
    huey, _ = queue._huey(store.home, "interactive", False)
    huey.flush()
    worker.take_over("interactive")
    assert [run_id for run_id, _ in queue.waiting("interactive")] == [ann[0], bob, *ann[1:]]


def test_a_turn_is_never_overtaken_for_good() -> None:
    """Whoever comes anew joins the turn that is going on, never an earlier one."""
    waiting = [("ann", 7), ("ann", 8), ("bob", 7)]
    assert next_turn(waiting, "cat") == 7
    assert next_turn(waiting, "ann") == 9
    assert next_turn([], "ann") == 0


def test_a_repeat_belongs_to_who_asks_for_it(store: Store) -> None:
    run_id = asked("ann", 1)
    store.cancel(run_id)
    again = repeat(run_id, owner="bob")
    assert store.run(again).record.owner == "bob"
    assert store.run(run_id).record.owner == "ann"
