"""When a worker that has ended is started again."""

from open_autoglm.server.workers.crew import FAILURES_MAX, Worker


def test_one_that_has_served_a_minute_comes_back_at_once() -> None:
    worker = Worker(1, pid=7, born_s=100.0, failures=5)
    assert worker.ended(160.0, well=False) == 0.0
    assert (worker.pid, worker.due_s, worker.failures) == (0, 160.0, 0)


def test_one_that_ends_soon_again_and_again_waits_longer_each_time() -> None:
    worker = Worker(1)
    delays = []
    for _ in range(FAILURES_MAX):
        worker.pid, worker.born_s = 7, 100.0
        delays.append(worker.ended(101.0, well=False))
    assert delays == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
    assert worker.failures == FAILURES_MAX


def test_one_that_was_told_to_leave_has_not_failed() -> None:
    worker = Worker(1, pid=7, born_s=100.0, failures=3)
    assert worker.ended(101.0, well=True) == 0.0
    assert worker.failures == 0
