from open_autoglm.admission.classes import CRITICAL, NAMES, NUMBERS, SHEDDABLE, rooms


def test_classes_are_numbered_from_the_first_to_be_given_up() -> None:
    assert NUMBERS == {"sheddable": 0, "sheddable_plus": 1, "critical": 2, "critical_plus": 3}
    assert NAMES[SHEDDABLE] == "sheddable"
    assert NAMES[CRITICAL] == "critical"


def test_each_class_has_its_share_of_a_limit() -> None:
    assert rooms(100) == (70, 85, 100, 110)
    assert rooms(20) == (14, 17, 20, 22)


def test_no_class_is_shut_out_of_a_small_limit() -> None:
    assert rooms(1) == (1, 1, 1, 1)
