r"""The `format` keyword of JSON Schema as regular expressions.

Each expression matches texts that a validator accepts for the format, and nearly all of those that people
write. It may match fewer: leap seconds, IP literals in URIs, non-ASCII in IRIs and internationalised names, and
quoted local parts of mail addresses are left out. It never matches more: 2023-02-29 is no `date`. The tests
compare with jsonschema-rs.

A format has several expressions where the standard bounds a length on top of a shape.
"""

from __future__ import annotations

import functools

_HEX = "[0-9a-fA-F]"
_PERCENT = f"%{_HEX}{{2}}"

# ISO 8601 as in RFC 3339. February has 29 days in years divisible by 4, but not by 100 unless by 400.
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](?:\.[0-9]{{1,9}})?(?:[zZ]|[+-]{_CLOCK})"
_DURATION_TIME = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_DURATION_DATE = "(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"
_DURATION = f"P(?:{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME}|[0-9]+W)"

# Labels without a double hyphen: `xn--` would claim to be Punycode.
_LABEL = "[a-zA-Z0-9](?:-?[a-zA-Z0-9])*"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_LABEL_LENGTHS = r"[^.]{1,63}(?:\.[^.]{1,63})*"
_ATOM = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~\-]+"
_MAIL = rf"{_ATOM}(?:\.{_ATOM})*@{_HOST}"

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_GROUP = f"{_HEX}{{1,4}}"


def _ipv6() -> str:
    """Eight groups, or at most seven with one `::`, without embedded IPv4."""

    def groups(most: int) -> str:
        return f"(?:{_GROUP}(?::{_GROUP}){{0,{most - 1}}})?" if most else ""

    short = "|".join(f"{groups(left)}::{groups(7 - left)}" for left in range(8))
    return f"(?:(?:{_GROUP}:){{7}}{_GROUP}|{short})"


# RFC 3986, hosts by name or IPv4.
_UNRESERVED = r"[a-zA-Z0-9._~!$&'()*+,;=\-]"
_PATH_CHAR = rf"(?:[a-zA-Z0-9._~!$&'()*+,;=:@\-]|{_PERCENT})"
_SEGMENT_NO_COLON = rf"(?:[a-zA-Z0-9._~!$&'()*+,;=@\-]|{_PERCENT})+"
_TAIL = rf"(?:\?(?:{_PATH_CHAR}|[/?])*)?(?:#(?:{_PATH_CHAR}|[/?])*)?"
_AUTHORITY = rf"(?:(?:{_UNRESERVED}|:|{_PERCENT})*@)?(?:{_UNRESERVED}|{_PERCENT})*(?::[0-9]{{0,4}})?"
_SEGMENTS = f"(?:/{_PATH_CHAR}*)*"
_ABSOLUTE = f"/(?:{_PATH_CHAR}+{_SEGMENTS})?"
_URI = rf"[a-zA-Z][a-zA-Z0-9+.\-]*:(?://{_AUTHORITY}{_SEGMENTS}|{_ABSOLUTE}|{_PATH_CHAR}+{_SEGMENTS}|){_TAIL}"
_RELATIVE = f"(?://{_AUTHORITY}{_SEGMENTS}|{_ABSOLUTE}|{_SEGMENT_NO_COLON}{_SEGMENTS}|){_TAIL}"

# RFC 6570.
_VARIABLE = r"[a-zA-Z0-9_]+(?:\.[a-zA-Z0-9_]+)*(?::[1-9][0-9]{0,3}|\*)?"
_TEMPLATE = rf"(?:[a-zA-Z0-9._~/:?#@!$&()*+,;=\-]|{_PERCENT}|\{{[+#./;?&]?{_VARIABLE}(?:,{_VARIABLE})*\}})*"

_POINTER = "(?:/(?:[^~/]|~[01])*)*"

FORMATS: dict[str, tuple[str, ...]] = {
    "date": (_DATE,),
    "time": (_TIME,),
    "date-time": (f"{_DATE}[tT]{_TIME}",),
    "duration": (_DURATION,),
    "email": (_MAIL, r"[^@]{1,64}@.{1,253}", rf"[^@]*@{_LABEL_LENGTHS}"),
    "idn-email": (_MAIL, r"[^@]{1,64}@.{1,253}", rf"[^@]*@{_LABEL_LENGTHS}"),
    "hostname": (_HOST, _LABEL_LENGTHS, ".{1,253}"),
    "idn-hostname": (_HOST, _LABEL_LENGTHS, ".{1,253}"),
    "ipv4": (_IPV4,),
    "ipv6": (_ipv6(),),
    "uuid": (f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}",),
    "uri": (_URI,),
    "iri": (_URI,),
    "uri-reference": (f"(?:{_URI}|{_RELATIVE})",),
    "iri-reference": (f"(?:{_URI}|{_RELATIVE})",),
    "uri-template": (_TEMPLATE,),
    "json-pointer": (_POINTER,),
    "relative-json-pointer": (f"(?:0|[1-9][0-9]*)(?:#|{_POINTER})",),
}
"""By format, expressions that all match the whole string."""

CHECKED_FORMATS = frozenset({"regex"})
"""Formats that no regular expression describes: checked when the string is closed."""


def patterns_of(name: str) -> tuple[str, ...]:
    """The anchored expressions of a format, `()` if it has none.

    >>> import re
    >>> [bool(re.search(patterns_of("date")[0], day)) for day in ("2024-02-29", "2023-02-29", "2024-2-9")]
    [True, False, False]
    """
    return tuple(f"^(?:{pattern})$" for pattern in FORMATS.get(name, ()))


@functools.cache
def is_asserted(name: str, draft: str) -> bool:
    """Whether a draft knows a format. Others are annotations: they do not restrict anything.

    :param draft: the URI of the draft's meta-schema.
    """
    import jsonschema_rs

    validator = jsonschema_rs.validator_for(
        {"$schema": draft, "format": name}, validate_formats=True, offline=True
    )
    # No format of the standard allows this string.
    return not validator.is_valid("\0 {~2")
