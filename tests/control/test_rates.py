"""How many operations ended in each second, from numbers that only rise."""

from calloff.control._rates import Rates, per_second, sparks


def test_each_second_has_what_ended_in_it() -> None:
    rates = Rates()
    for now, over in ((10.0, 100), (10.9, 105), (11.2, 110), (12.1, 140), (13.5, 140), (14.0, 140)):
        rates.see(now, {1: over})
    assert rates.series() == (5.0, 5.0, 30.0, 0.0)
    assert rates.mean() == 10.0


def test_a_process_that_comes_or_is_silent_for_a_while_is_no_burst() -> None:
    rates = Rates()
    rates.see(1.0, {1: 7})
    rates.see(2.0, {1: 9, 2: 1_000_000})
    rates.see(3.0, {2: 1_000_000})
    rates.see(4.0, {1: 10, 2: 1_000_003})
    rates.see(5.0, {})
    assert rates.series() == (0.0, 2.0, 0.0, 4.0)


def test_a_look_after_several_seconds_speaks_for_all_of_them() -> None:
    rates = Rates()
    rates.see(1.0, {1: 0})
    rates.see(5.5, {1: 40})
    rates.see(6.0, {1: 40})
    assert rates.series() == (0.0, 10.0, 10.0, 10.0, 10.0)


def test_only_the_last_seconds_are_kept() -> None:
    rates = Rates(seconds=3)
    for now in range(100):
        rates.see(now, {1: now})
    rates.see(1e6, {1: 100})
    assert len(rates.series()) == 3


def test_drawn_and_told() -> None:
    assert sparks((0.0, 1.0, 4.0, 8.0), 3) == "▂▅█"
    assert sparks((0.0, 0.0), 8) == ""
    assert (per_second(0.42), per_second(12.4), per_second(3400)) == ("0.4/s", "12/s", "3.4k/s")
