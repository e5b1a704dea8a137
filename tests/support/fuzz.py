"""Strategies for what strangers may send: JSON as text, request heads, bodies, paths, packets."""

import json
from collections.abc import Sequence
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "PROPFIND")
# Written as they are: what no encoder writes, and what readers stumble over.
ODD_JSON = (
    *(
        "1e999",
        "-1e999",
        "1e-999",
        "-0",
        "01",
        "NaN",
        "Infinity",
        "9" * 4301,
        "-" + "9" * 400,
        "1" * 19,
        "0." + "1" * 999,
    ),
    *(
        '"\\ud800"',
        '"\\u0000"',
        '"\\udc00\\ud800"',
        '"\\x"',
        '"',
        "[" * 2000,
        '{"a":' * 2000,
        "[]" * 9,
        "",
        " ",
        "{}",
        "[]",
    ),
    *(
        '{"$gt": ""}',
        '{"_placeholder": true, "num": 0}',
        "null",
        "true",
        '""',
        "9007199254740993",
        "18446744073709551616",
    ),
    *(
        '{"a": 1, "a": 2}',
        '"\ufeff"',
        '"\u202e"',
        '"' + "x" * 11_000 + '"',
        '"' + "\\ud83d" * 50 + '"',
        "[1,]",
        '{"": {}}',
    ),
)
HEADERS = (
    *("Accept", "Accept-Encoding", "Access-Control-Request-Headers", "Authorization", "Connection", "Content-Encoding"),
    *(
        "Content-Type",
        "Cookie",
        "Expect",
        "Forwarded",
        "Host",
        "If-Modified-Since",
        "If-None-Match",
        "If-Range",
        "Origin",
    ),
    *("Range", "Sec-Fetch-Site", "Sec-WebSocket-Extensions", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol"),
    *("Sec-WebSocket-Version", "Upgrade", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id"),
)
ODD_VALUES = (
    *(
        "",
        " ",
        ",",
        ";",
        "*",
        "null",
        "[",
        "http://[",
        "http://[::1",
        "//",
        "http://a:b",
        "https://x:99999",
        "\x00",
        "\xff",
    ),
    *(
        "Bearer",
        "Bearer ",
        "bearer x.y.z",
        "Bearer " + "x" * 9000,
        "Basic eDp5",
        "websocket",
        "Upgrade",
        "keep-alive, Upgrade",
    ),
    *(
        "close",
        "100-continue",
        "gzip",
        "chunked",
        "bytes=0-0",
        "bytes=-1",
        "bytes=5-2",
        "bytes=0-,1-",
        "bytes=" + "9" * 400,
    ),
    *(
        '"x"',
        'W/"x"',
        "*/*",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "multipart/form-data",
        'multipart/form-data; boundary=""',
    ),
    *(
        "multipart/form-data; boundary=x",
        "application/json",
        "application/json; charset=\xff",
        "text/plain",
        "13",
        "12",
        "a" * 24,
    ),
    *(
        "127.0.0.1",
        "::ffff:1.2.3.4, ::1",
        "1.2.3.4:5",
        "permessage-deflate",
        "9" * 4301,
        "-1",
        "0x10",
        "1_000",
        "+1",
        "1,1",
    ),
)
# Lengths that do not promise more than comes: whoever does that is waited for, and rightly so.
ODD_LENGTHS = ("9" * 4301, "9" * 30, "99999999999", "-1", "+1", "0x1", "1e3", "", " ", "0, 0", "1,2", "\xb2", "0" * 50)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)
json_texts = st.builds(json.dumps, json_values, ensure_ascii=st.booleans()) | st.sampled_from(ODD_JSON)
header_values = st.sampled_from(ODD_VALUES) | st.text(
    st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60
)


def objects(names: Sequence[str], good: dict[str, str]) -> SearchStrategy[str]:
    """The text of an object with fields of these names, some as in `good` (JSON texts), in any order, some twice."""
    values = json_texts if not good else json_texts | st.sampled_from(sorted(good.values()))
    unknown = st.sampled_from(("zz", "$where", "", "__proto__"))
    names_of_one = st.sampled_from(sorted(names)) if names else unknown
    fields = st.tuples(names_of_one | unknown, values)
    written = st.lists(fields, max_size=6).map(
        lambda drawn: "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in drawn) + "}"
    )
    filled = st.tuples(fields, st.sampled_from(("zz", *names))).map(
        lambda drawn: "{" + ", ".join(f"{json.dumps(n)}: {t}" for n, t in {**good, drawn[1]: drawn[0][1]}.items()) + "}"
    )
    return written | filled | json_texts


def segments(known: Sequence[str]) -> SearchStrategy[str]:
    """One part of a path: an id that there is, or any bytes."""
    odd = st.sampled_from(
        ("", ".", "..", "%", "%zz", "%00", "%ff", "%2e%2e", "%ED%A0%80", "$gt", "a" * 3000, "\xff", "[", "me")
    )
    return st.sampled_from(sorted(known)) | odd | st.binary(max_size=20).map(quote)


queries = st.lists(
    st.tuples(
        st.sampled_from(
            ("q", "limit", "cursor", "page", "before", "after", "sid", "EIO", "transport", "t", "j", "b64", "x")
        ),
        st.sampled_from(
            (
                "",
                "1",
                "0",
                "-1",
                "200",
                "201",
                "1e3",
                "9" * 4301,
                "4",
                "polling",
                "websocket",
                "%ff",
                "%00",
                "+",
                "\xff",
            )
        )
        | st.binary(max_size=12).map(quote),
    ),
    max_size=4,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))

headers = st.dictionaries(st.sampled_from(HEADERS), header_values, max_size=4)
bodies = st.binary(max_size=200) | json_texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
