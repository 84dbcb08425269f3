#!/usr/bin/env python3
"""Writes tests/golden/window_bounds.csv: window bounds by Python's zoneinfo, for src/meter/window/tests.rs.

    python3 tests/oracle/window_bounds.py > tests/golden/window_bounds.csv

An independent second opinion: it knows only UTC-to-local conversion. A local day begins at the first minute whose local
time is the day's 00:00 or later, found by trying every minute. Windows follow from the days as the head of
src/meter/window.rs says. Instants are whole seconds since 1970; dates stay where tz databases agree (no future rules).
"""

import random
from datetime import date, datetime, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo

# zone, local dates around which something happens
CASES = [
    ("UTC", ["2024-02-29", "2025-12-31", "1969-12-31", "1970-01-01"]),
    ("Europe/Berlin", ["2025-03-30", "2025-10-26", "2025-12-31", "2024-02-29"]),
    ("America/New_York", ["2025-03-09", "2025-11-02", "2025-11-30"]),
    ("America/St_Johns", ["2006-04-02", "2006-10-29", "2025-03-09"]),  # changes at 00:01: midnight shown twice
    ("America/Havana", ["2024-03-10", "2024-11-03"]),  # midnight skipped; midnight shown twice
    ("America/Sao_Paulo", ["2018-11-04", "2018-02-18"]),  # midnight skipped; set back at midnight
    ("America/Toronto", ["1919-03-31", "1919-10-26"]),  # 23:30 to 00:30: the day begins at 00:30
    ("Africa/Cairo", ["2024-04-26", "2024-10-31"]),
    ("Asia/Kolkata", ["2025-06-30", "2025-08-01"]),  # half an hour
    ("Asia/Kathmandu", ["2025-06-30"]),  # three quarters
    ("Australia/Lord_Howe", ["2025-04-06", "2025-10-05"]),  # summer time of half an hour
    ("Pacific/Apia", ["2011-12-29", "2011-12-31"]),  # 30 December 2011 left out
    ("Pacific/Kiritimati", ["1994-12-30", "1995-01-02", "2025-01-31"]),  # 31 December 1994 left out
    ("America/Scoresbysund", ["2024-03-31", "2023-10-29"]),
    ("Africa/Casablanca", ["2024-03-10", "2024-04-14"]),
    ("Antarctica/Troll", ["2024-03-31", "2024-10-27"]),  # two hours
]
SUB_DAY = {"1s": 1, "90s": 90, "5m": 300, "15m": 900, "1h": 3600, "6h": 21600, "8h": 28800, "12h": 43200}
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def local(zone, second):
    return (EPOCH + timedelta(seconds=second)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@cache
def day_start(zone, day):
    midnight = datetime(day.year, day.month, day.day)
    second = int((midnight.replace(tzinfo=timezone.utc) - EPOCH).total_seconds()) - 50 * 3600
    while local(zone, second) < midnight:
        second += 60
    return second


def day_of(zone, at):
    day = local(zone, at).date()
    while at >= day_start(zone, day + timedelta(days=1)):
        day += timedelta(days=1)
    return day


def month_bounds(zone, day):
    first = day.replace(day=1)
    after = (first + timedelta(days=32)).replace(day=1)
    return day_start(zone, first), day_start(zone, after)


def bounds(zone, length, at):
    day = day_of(zone, at)
    start, end = day_start(zone, day), day_start(zone, day + timedelta(days=1))
    if length in SUB_DAY:
        step = SUB_DAY[length]
        first = start + (at - start) // step * step
        return first, min(first + step, end)
    if length == "1d":
        return start, end
    month_start, month_end = month_bounds(zone, day)
    if length == "1mo":
        return month_start, month_end
    monday = day - timedelta(days=day.weekday())
    week_start, week_end = day_start(zone, monday), day_start(zone, monday + timedelta(days=7))
    return max(week_start, month_start), min(week_end, month_end)


def instants(zone, around, rng):
    """Edges and random seconds of three days around a date."""
    centre = day_start(zone, date.fromisoformat(around))
    edges = [centre + d for d in (-3601, -1, 0, 1, 1799, 3599, 3600, 7200, 86399, 86400)]
    return edges + [centre + rng.randrange(-100_000, 190_000) for _ in range(6)]


def main():
    rng = random.Random(1)
    print("zone,length,at,start,end")
    for zone, dates in CASES:
        for around in dates:
            for at in instants(zone, around, rng):
                for length in [*SUB_DAY, "1d", "1w", "1mo"]:
                    start, end = bounds(zone, length, at)
                    assert start <= at < end
                    print(f"{zone},{length},{at},{start},{end}")


if __name__ == "__main__":
    main()
