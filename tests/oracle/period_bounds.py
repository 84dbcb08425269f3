#!/usr/bin/env python3
"""Writes tests/golden/period_bounds.csv: billing periods by Python's zoneinfo, for src/meter/calendar/tests.rs.

    python3 tests/oracle/period_bounds.py > tests/golden/period_bounds.csv

An independent second opinion: it knows only UTC-to-local conversion. A local day begins at the first minute whose local
time is the day's 00:00 or later, found by trying every minute. Every period around an instant is laid out, one after
the other, and the one that holds the instant is picked. Instants are whole seconds since 1970; dates stay where tz
databases agree (no future rules).

`eras` is what a customer has set: `month=anchor@zone` for each change, `|` between them. The month is empty for
"always", anchor and zone are empty for the 1st and the meter's zone.
"""

import random
from datetime import date, datetime, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
FEBRUARIES = ["2023-02-14", "2024-02-14", "1900-02-14", "2000-02-14", "2025-03-01", "2024-03-31"]

# the meter's zone, local dates around which something happens
CASES = [
    ("UTC", [*FEBRUARIES, "2025-12-31", "1970-01-01", "2020-12-31", "2021-01-03"]),
    ("Europe/Berlin", [*FEBRUARIES, "2025-03-30", "2025-10-26", "2019-12-31"]),
    ("America/New_York", ["2024-02-29", "2025-03-09", "2025-11-02", "2025-11-30"]),
    ("America/Havana", ["2024-03-10", "2024-11-03", "1998-03-29", "2002-10-27"]),  # midnight skipped; shown twice
    ("America/Sao_Paulo", ["2018-11-04", "2018-02-18", "2018-02-28"]),  # midnight skipped; set back at midnight
    ("America/St_Johns", ["2006-04-02", "2006-10-29"]),  # changes at 00:01
    ("America/Toronto", ["1919-03-31"]),  # 23:30 to 00:30: the day, and an anchor's period, begin at 00:30
    ("Africa/Cairo", ["2024-04-26", "2024-10-31", "2023-04-28"]),  # midnight skipped on the 26th and the 28th
    ("Asia/Kolkata", ["2024-02-29", "2025-06-30"]),  # half an hour
    ("Asia/Kathmandu", ["2025-02-28", "2025-06-30"]),  # three quarters
    ("Australia/Lord_Howe", ["2025-04-06", "2025-10-05", "2024-02-29"]),  # summer time of half an hour
    ("Pacific/Apia", ["2011-12-29", "2011-12-31", "2012-01-01"]),  # 30 December 2011 left out
    ("Pacific/Kiritimati", ["1994-12-30", "1995-01-02", "2025-01-31"]),  # 31 December 1994 left out
    ("Asia/Amman", ["2022-02-25", "2021-10-29"]),
    ("Antarctica/Troll", ["2024-03-31", "2024-10-27"]),  # two hours
]
ANCHORS = [1, 15, 28, 29, 30, 31]

# the meter's zone, eras, dates
CHANGES = [
    ("UTC", "=15@Asia/Tokyo", ["2024-02-15"]),
    ("UTC", "=15@|2024-03=31@", ["2024-02-15", "2024-03-15", "2024-03-31"]),
    ("UTC", "=31@|2024-03=1@", ["2024-01-31", "2024-02-29", "2024-03-01"]),
    ("Europe/Berlin", "2024-05=10@America/New_York|2024-07=@|2024-08=@Asia/Kolkata", ["2024-05-10", "2024-07-31"]),
    # The new zone's month begins before the old zone's last day: an hour and two hours of nothing.
    ("Pacific/Pago_Pago", "=31@|2025-02=1@Pacific/Kiritimati", ["2025-01-31", "2025-02-01"]),
    ("Etc/GMT+12", "=31@|2025-03=@Pacific/Kiritimati", ["2025-02-28", "2025-03-01"]),
    ("Pacific/Kiritimati", "=1@|2025-02=31@Pacific/Pago_Pago|2025-03=1@", ["2025-01-31", "2025-02-28", "2025-03-01"]),
]


def local(zone, second):
    return (EPOCH + timedelta(seconds=second)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@cache
def day_start(zone, day):
    midnight = datetime(day.year, day.month, day.day)
    utc = int((midnight.replace(tzinfo=timezone.utc) - EPOCH).total_seconds())
    # No earlier than by the clock that is furthest ahead within two days.
    hours = (utc + 3600 * n for n in range(-50, 51))
    ahead = max(local(zone, second) - local("UTC", second) for second in hours)
    second = (utc - int(ahead.total_seconds())) // 60 * 60
    while local(zone, second) < midnight:
        second += 60
    return second


def parse_eras(text):
    """[(first month as (year, month), anchor, zone or None)], oldest first."""
    eras = []
    for part in filter(None, text.split("|")):
        month, _, rest = part.partition("=")
        anchor, _, zone = rest.partition("@")
        first = (int(month[:4]), int(month[5:])) if month else (0, 0)
        eras.append((first, int(anchor or 1), zone or None))
    return eras


def settings(meter_zone, eras, day):
    """The anchor and zone in force in a day's month."""
    anchor, zone = 1, meter_zone
    for first, era_anchor, era_zone in eras:
        if first <= (day.year, day.month):
            anchor, zone = era_anchor, era_zone or meter_zone
    return anchor, zone


def raw_start(meter_zone, kind, eras, first):
    # A week follows the Monday before it.
    anchor, zone = settings(meter_zone, eras, first - timedelta(weeks=1) if kind == "week" else first)
    if kind != "month":
        return day_start(zone, first)
    day = first
    while day.day < anchor and (day + timedelta(days=1)).month == first.month:
        day += timedelta(days=1)
    return day_start(zone, day)


def firsts(kind, around):
    """The first dates of the periods around a date, in order."""
    if kind == "day":
        return [around + timedelta(days=n) for n in range(-5, 6)]
    if kind == "week":
        monday = around - timedelta(days=around.weekday())
        return [monday + timedelta(weeks=n) for n in range(-4, 5)]
    months = [around.year * 12 + around.month - 1 + n for n in range(-4, 5)]
    return [date(month // 12, month % 12 + 1, 1) for month in months]


def label(kind, first):
    if kind == "week":
        year, week, _ = first.isocalendar()
        return f"{year:04}-W{week:02}"
    return first.isoformat()[:7] if kind == "month" else first.isoformat()


def period(meter_zone, kind, eras, at):
    """The label and bounds of the period that holds an instant. No period starts before one that comes earlier."""
    line, latest = [], None
    for first in firsts(kind, (EPOCH + timedelta(seconds=at)).date()):
        start = raw_start(meter_zone, kind, eras, first)
        latest = start if latest is None else max(latest, start)
        line.append((latest, label(kind, first)))
    for (start, name), (end, _) in zip(line, line[1:]):
        if start <= at < end:
            return name, start, end
    raise AssertionError("the instant lies outside of what was laid out")


def instants(zone, around, rng):
    """Edges, and random seconds of the weeks around a date."""
    centre = day_start(zone, date.fromisoformat(around))
    edges = [centre + d for d in (-7200, -3601, -1, 0, 1, 1800, 3600, 86399, 86400)]
    return edges + [centre + rng.randrange(-40 * 86400, 40 * 86400) for _ in range(5)]


def main():
    rng = random.Random(2)
    print("zone,kind,eras,at,period,start,end")

    def write(zone, kind, eras, at):
        name, start, end = period(zone, kind, parse_eras(eras), at)
        print(f"{zone},{kind},{eras},{at},{name},{start},{end}")

    for zone, dates in CASES:
        for around in dates:
            for at in instants(zone, around, rng):
                for anchor in ANCHORS:
                    write(zone, "month", "" if anchor == 1 else f"={anchor}@", at)
                for kind in ["week", "day"]:
                    write(zone, kind, "", at)
    for zone, eras, dates in CHANGES:
        for around in dates:
            for at in instants(zone, around, rng):
                for kind in ["month", "week", "day"]:
                    write(zone, kind, eras, at)


if __name__ == "__main__":
    main()
