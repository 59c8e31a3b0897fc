"""plrc.schedules: where each schedule starts, passes and ends."""

from itertools import pairwise

import pytest

from plrc.schedules import cosine_learning_rate, teacher_temperature


def test_the_learning_rate_is_half_a_cosine():
    rates = [cosine_learning_rate(step, 100, 0.03) for step in range(101)]
    assert rates[0] == 0.03
    assert rates[25] == pytest.approx(0.03 * (2 + 2**0.5) / 4)
    assert rates[50] == pytest.approx(0.015)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert all(a + b == pytest.approx(0.03) for a, b in zip(rates, rates[::-1], strict=True)), "point-symmetric"


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0.04), (10, 0.05), (15.5, 0.0555), (30, 0.07), (30.01, 0.07)])
def test_the_teachers_temperature_rises_and_stays(epoch, expected):
    assert teacher_temperature(epoch, 0.04, 0.07, 30) == pytest.approx(expected)
    assert teacher_temperature(epoch, 0.04, 0.07, 0) == 0.07
    assert teacher_temperature(5, 0.08, 0.04, 10) == pytest.approx(0.06), "it may fall"
