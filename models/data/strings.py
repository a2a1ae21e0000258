"""Short strings: dates, times, names, addresses, telephone numbers, links, colours, numbers."""

from __future__ import annotations

import unicodedata
from random import Random

from sentax.models.data.draws import chance, tail
from sentax.models.data.words import CITIES, COLORS, DOMAINS, FAMILY, GIVEN, MONTHS, TOPICS, WEEKDAYS

_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _ymd(rng: Random) -> tuple[int, int, int]:
    """A valid calendar day; most years are recent."""
    year = 2024 + int(rng.gauss(0, 6)) if chance(rng, 0.7) else rng.randint(1900, 2099)
    month = rng.randint(1, 12)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return year, month, rng.randint(1, 29 if leap and month == 2 else _DAYS[month - 1])


def clock(rng: Random, seconds: bool = False) -> str:
    """A time of day as `hh:mm` or `hh:mm:ss`; full hours, halves and quarters are frequent."""
    hour = rng.randint(7, 20) if chance(rng, 0.7) else rng.randint(0, 23)
    minute = rng.choice((0, 0, 30, 15, 45)) if chance(rng, 0.5) else rng.randint(0, 59)
    return f"{hour:02}:{minute:02}" + (f":{rng.randint(0, 59):02}" if seconds else "")


def iso_date(rng: Random) -> str:
    """An ISO-8601 day, `2031-04-17`."""
    return "{:04}-{:02}-{:02}".format(*_ymd(rng))


def iso_datetime(rng: Random) -> str:
    """An ISO-8601 day and time, with no zone, `Z` or an offset."""
    zone = rng.choice(("", "Z", "Z", "+01:00", "-05:00", "+02:00", "+09:00", "-08:00", "+05:30"))
    separator = " " if not zone and chance(rng, 0.3) else "T"
    return iso_date(rng) + separator + clock(rng, seconds=chance(rng, 0.8)) + zone


def date(rng: Random) -> str:
    """A date in one of many formats; about two in three are ISO-8601."""
    style = rng.random()
    if style < 0.52:
        return iso_date(rng)
    if style < 0.66:
        return iso_datetime(rng)
    year, month, day = _ymd(rng)
    name = MONTHS[month - 1]
    return rng.choice(
        (
            f"{day:02}/{month:02}/{year}",
            f"{month}/{day}/{year}",
            f"{day}.{month}.{year}",
            f"{day} {name} {year}",
            f"{name} {day}, {year}",
            f"{name[:3]} {day} {year}",
            f"{day} {name}",
            f"{rng.choice(WEEKDAYS)}, {day} {name} {year}",
            f"{year}/{month:02}/{day:02}",
            f"{year}{month:02}{day:02}",
            f"{year}-{month:02}",
            f"{name} {year}",
            f"{day:02}-{name[:3]}-{year % 100:02}",
        )
    )


def time(rng: Random) -> str:
    """A time of day in one of several formats."""
    hour = rng.randint(1, 12)
    return rng.choice(
        (
            clock(rng),
            clock(rng),
            clock(rng, seconds=True),
            f"{hour}:{rng.choice((0, 15, 30, 45)):02} {rng.choice(('am', 'pm'))}",
            f"{hour} {rng.choice(('am', 'pm', 'AM', 'PM'))}",
            f"half past {tail(rng, ('two', 'three', 'seven', 'nine', 'five', 'eight', 'ten', 'eleven'))}",
        )
    )


def name(rng: Random) -> str:
    """A personal name; some have a middle initial, a title or a double family name."""
    given, family = tail(rng, GIVEN), tail(rng, FAMILY)
    style = rng.random()
    if style < 0.80:
        return f"{given} {family}"
    if style < 0.87:
        return f"{given} {rng.choice('ABCDEFGHJKLMPRST')}. {family}"
    if style < 0.92:
        return f"{rng.choice(('Dr.', 'Prof.', 'Ms.', 'Mr.', 'Mrs.'))} {given} {family}"
    if style < 0.96:
        return f"{given} {family}-{tail(rng, FAMILY)}"
    return f"{family}, {given}"


def _ascii(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if c.isascii() and c.isalnum()).lower()


def email_of(rng: Random, person: str) -> str:
    """An address that belongs to a person.

    :param person: a name as :func:`name` makes it.
    """
    words = [_ascii(word) for word in person.replace(",", "").split() if not word.endswith(".")]
    first, last = words[0], words[-1]
    local = rng.choice(
        (
            f"{first}.{last}",
            f"{first}.{last}",
            f"{first}.{last}",
            first,
            f"{first[0]}.{last}",
            f"{first[0]}{last}",
            f"{first}_{last}",
            f"{first}{rng.randint(1, 99)}",
            f"{last}.{first}+{tail(rng, ('news', 'work', 'shop', 'lists', 'test'))}",
            f"{first}{last}{rng.randint(1950, 2010)}",
        )
    )
    return f"{local}@{tail(rng, DOMAINS)}"


def email(rng: Random) -> str:
    """An electronic-mail address; a few are role addresses."""
    if chance(rng, 0.12):
        role = tail(
            rng,
            ("info", "contact", "support", "hello", "admin", "sales", "office", "no-reply", "jobs", "team"),
        )
        return f"{role}@{tail(rng, DOMAINS)}"
    return email_of(rng, f"{tail(rng, GIVEN)} {tail(rng, FAMILY)}")


def _digits(rng: Random, shape: str) -> str:
    return "".join(
        str(rng.randint(0, 9)) if c == "#" else str(rng.randint(2, 9)) if c == "N" else c for c in shape
    )


_PHONES = (
    "+44 20 7### ####",
    "+1 (N##) N##-####",
    "(N##) 555-01##",
    "N##-555-01##",
    "+1-N##-N##-####",
    "+49 30 ########",
    "+33 1 ## ## ## ##",
    "020 7946 0###",
    "+34 6## ### ###",
    "+81 3-####-####",
    "+39 06 #### ####",
    "+351 9## ### ###",
    "07### ######",
    "+41 44 ### ## ##",
    "+91 9#### #####",
    "N## N## ####",
    "+55 11 9####-####",
    "1-800-N##-####",
)


def phone(rng: Random) -> str:
    """A telephone number in one of many national and international formats."""
    number = _digits(rng, tail(rng, _PHONES))
    return number + (f" ext. {rng.randint(10, 999)}" if chance(rng, 0.03) else "")


def slug(rng: Random) -> str:
    """Words joined with hyphens, as in a link."""
    return "-".join(_ascii(word) for word in tail(rng, TOPICS).split()[: rng.randint(1, 3)])


def url(rng: Random) -> str:
    """A link; most have a path, some a query or a fragment."""
    host = rng.choice(("", "", "www.", "docs.", "blog.", "api.")) + tail(rng, DOMAINS)
    parts = ("news", "blog", "docs", "about", "users", "items", "en", "api", "v2", "search", "papers", "maps")
    path = "".join(f"/{tail(rng, parts)}" for _ in range(rng.randint(0, 2)))
    if chance(rng, 0.35):
        path += f"/{slug(rng)}"
    if chance(rng, 0.15):
        path += f"/{rng.randint(1, 9999)}"
    if chance(rng, 0.12):
        key = rng.choice(("q", "id", "page", "lang", "sort"))
        path += f"?{key}={rng.choice((str(rng.randint(1, 99)), slug(rng), 'en'))}"
    if chance(rng, 0.05):
        path += f"#{tail(rng, ('top', 'intro', 'references', 'section-2'))}"
    return rng.choice(("https", "https", "https", "http")) + "://" + host + path


def color(rng: Random) -> str:
    """A colour: a name, hexadecimal, or `rgb(...)`."""
    style = rng.random()
    if style < 0.45:
        return tail(rng, COLORS)
    if style < 0.85:
        value = "".join(rng.choice("0123456789abcdef") for _ in range(3 if chance(rng, 0.2) else 6))
        return "#" + (value.upper() if chance(rng, 0.4) else value)
    return "rgb({}, {}, {})".format(*(rng.choice((0, 255, rng.randint(0, 255))) for _ in range(3)))


def number(rng: Random) -> str:
    """A number: integer, decimal, negative, grouped, scientific, percentage or price."""
    size = 10 ** rng.randint(1, 5)
    whole = rng.randint(0, size)
    return rng.choice(
        (
            str(whole),
            str(whole),
            str(whole),
            f"{whole / 100:.2f}",
            f"{whole / 10:.1f}",
            f"-{whole}",
            f"{whole * 37:,}",
            f"{rng.randint(10, 99) / 10}e{rng.randint(-9, 12)}",
            f"{rng.randint(0, 100)}%",
            f"${whole / 100:.2f}",
        )
    )


def address(rng: Random) -> str:
    """A street address."""
    street = tail(
        rng,
        ("High", "Park", "Mill", "Station", "Church", "River", "Oak", "King", "Garden", "Bridge", "School"),
    )
    house, way = rng.randint(1, 199), tail(rng, ("Street", "Road", "Lane", "Avenue", "Square"))
    return f"{house} {street} {way}, {tail(rng, CITIES)}"
