from open_autoglm.admission.key_line import KeyLine
from open_autoglm.admission.settings import AdmissionSettings


class Gate:
    """Lets in as many as it is told."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, now_s: float) -> float:
        self.room -= 1
        return 0.0 if self.room >= 0 else 0.5


def test_requests_are_let_in_in_the_order_of_their_coming() -> None:
    line: KeyLine[str] = KeyLine(AdmissionSettings())
    assert [line.join(name, 0.0, 100.0) for name in "xyz"] == [1, 2, 3]
    assert line.pump(0.1, Gate(2)) == (["x", "y"], [])
    assert (line.waiting, list(line)) == (1, ["z"])
    assert line.pump(0.2, Gate(0)) == ([], [])
    assert line.pump(0.3, Gate(5)) == (["z"], [])
    assert line.waiting == 0


def test_the_line_has_an_end() -> None:
    line: KeyLine[int] = KeyLine(AdmissionSettings(key_queue=2))
    assert [line.join(number, 0.0, 100.0) for number in range(3)] == [1, 2, 0]


def test_one_waits_for_the_age_or_half_of_its_time() -> None:
    line: KeyLine[str] = KeyLine(AdmissionSettings(key_age_s=10.0))
    line.join("patient", 0.0, 100.0)
    line.join("hurried", 0.0, 4.0)
    assert line.pump(1.9, Gate(0)) == ([], [])
    assert line.pump(2.0, Gate(0)) == ([], ["hurried"])
    assert line.pump(10.0, Gate(0)) == ([], ["patient"])
    assert line.waiting == 0


def test_one_that_left_is_forgotten() -> None:
    line: KeyLine[str] = KeyLine(AdmissionSettings())
    line.join("x", 0.0, 100.0)
    line.join("y", 0.0, 100.0)
    line.discard("x")
    line.discard("nobody")
    assert line.waiting == 1
    assert line.pump(0.1, Gate(1)) == (["y"], [])
