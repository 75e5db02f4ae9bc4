"""Durations, sizes, amounts and prices in words."""

import time

import pytest

from resa_hub.core.quantities import ago, amount, count, dollars, duration, rate, size


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (1.9e-5 * 3600, "0.068 s"),
        (1e-5, "< 0.01 s"),
        (1.24, "1.2 s"),
        (9.96, "10 s"),
        (119.4, "119 s"),
        (180, "3 min"),
        (8_640, "2.4 h"),
        (259_200, "3 days"),
        (1e8, "1,157 days"),
    ],
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("bytes_", "told"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (12_300, "12 kB"), (9_960_000, "10 MB"), (1.25e9, "1.2 GB")],
)
def test_sizes(bytes_: float, told: str) -> None:
    assert size(bytes_) == told


def test_rates_of_slow_work_are_times() -> None:
    assert rate(12_000, 10, "tokens") == "1,200 tokens/s"
    assert rate(5, 2, "steps") == "2.5 steps/s"
    assert rate(1, 12, "evaluations") == "12 s/evaluation"
    assert rate(0, 12, "evaluations") == rate(3, 0, "evaluations") == ""


def test_prices_tell_small_amounts_apart() -> None:
    assert [dollars(value) for value in (0, 0.00001, 0.0003, 0.021, 9.5, 60, 1234.5)] == [
        "$0.00", "< $0.0001", "$0.0003", "$0.02", "$9.50", "$60", "$1,234",
    ]  # fmt: skip


def test_amounts_and_counts() -> None:
    assert amount(7.58e15, "FLOP") == "7.58 PFLOP" and amount(0, "J") == "0 J"
    assert count(1, "arm") == "1 arm" and count(2_000, "arm") == "2,000 arms"


def test_ages() -> None:
    now = time.time()
    assert ago(now) == ago(now + 60) == "just now"
    assert ago(now - 90) == "1 minute ago" and ago(now - 3 * 86_400 - 1) == "3 days ago"
