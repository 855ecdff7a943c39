"""A second opinion on URLs of endpoints, written from the standards and not from Sendoff's code: the WHATWG URL standard
for what a URL's host is, and the RFCs behind IANA's registries for which addresses are public.

Reads one JSON string per line, and prints a verdict per line: `invalid` (no URL that an endpoint may have), `name`,
`public` or `blocked`.
"""

import ipaddress
import json
import sys
import unicodedata
from urllib.parse import unquote_to_bytes

NOT_PUBLIC_4 = [
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8",  # RFC 791
        "10.0.0.0/8",  # RFC 1918
        "100.64.0.0/10",  # RFC 6598
        "127.0.0.0/8",  # RFC 1122
        "168.63.129.16/32",  # Azure's platform service
        "169.254.0.0/16",  # RFC 3927
        "172.16.0.0/12",  # RFC 1918
        "192.0.0.0/24",  # RFC 6890
        "192.0.2.0/24",  # RFC 5737
        "192.88.99.0/24",  # RFC 7526
        "192.168.0.0/16",  # RFC 1918
        "198.18.0.0/15",  # RFC 2544
        "198.51.100.0/24",  # RFC 5737
        "203.0.113.0/24",  # RFC 5737
        "224.0.0.0/4",  # RFC 5771
        "240.0.0.0/4",  # RFC 1112
    )
]
UNICAST = ipaddress.ip_network("2000::/3")  # RFC 4291
MAPPED = ipaddress.ip_network("::ffff:0:0/96")  # RFC 4291
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
NOT_PUBLIC_6 = [
    ipaddress.ip_network(net)
    for net in (
        "2001::/23",  # RFC 2928, with Teredo (RFC 4380), benchmarking (RFC 5180) and ORCHID (RFC 7343)
        "2001:db8::/32",  # RFC 3849
        "2002::/16",  # RFC 3056
        "3fff::/20",  # RFC 9637
    )
]

# Forbidden domain code points.
FORBIDDEN = set("\x00\t\n\r #/:<>?@[\\]^|%\x7f") | {chr(c) for c in range(0x20)}
# Code points that the mapping of UTS 46 removes.
IGNORED = str.maketrans("", "", "\u00ad\u200b\u2060\ufeff\ufe0f\u034f")


class Invalid(Exception):
    pass


def is_public(ip):
    if ip.version == 4:
        return not any(ip in net for net in NOT_PUBLIC_4)
    inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in MAPPED or ip in NAT64:
        return is_public(inner)
    if ip not in UNICAST or any(ip in net for net in NOT_PUBLIC_6):
        return False
    # RFC 5214: the interface id of ISATAP.
    if (int(ip) >> 32) & 0xFDFFFFFF == 0x00005EFE:
        return is_public(inner)
    return True


def number(text):
    """A part of an IPv4 address, or None."""
    if text == "":
        return None
    base = 10
    if text[:2] in ("0x", "0X"):
        text, base = text[2:], 16
    elif len(text) > 1 and text[0] == "0":
        text, base = text[1:], 8
    if text == "":
        return 0
    digits = "0123456789abcdef"[:base]
    if any(c not in digits for c in text.lower()):
        return None
    return int(text, base)


def ends_in_a_number(host):
    parts = host.split(".")
    if parts[-1] == "":
        if len(parts) == 1:
            return False
        parts.pop()
    last = parts[-1]
    return (last != "" and all(c in "0123456789" for c in last)) or (last[:2].lower() == "0x" and number(last) is not None)


def ipv4(host):
    parts = host.split(".")
    if parts[-1] == "" and len(parts) > 1:
        parts.pop()
    if len(parts) > 4:
        raise Invalid
    numbers = [number(part) for part in parts]
    if None in numbers or any(n > 255 for n in numbers[:-1]) or numbers[-1] >= 256 ** (5 - len(numbers)):
        raise Invalid
    value = numbers[-1]
    for place, n in enumerate(numbers[:-1]):
        value += n * 256 ** (3 - place)
    return ipaddress.IPv4Address(value)


def parsed_host(text):
    """An address, or a name."""
    if text.startswith("["):
        inner = text[1:-1]
        if not text.endswith("]") or any(c not in "0123456789abcdefABCDEF:." for c in inner):
            raise Invalid
        try:
            return ipaddress.IPv6Address(inner)
        except ValueError:
            raise Invalid
    try:
        name = unquote_to_bytes(text.encode()).decode()
    except UnicodeDecodeError:
        raise Invalid
    name = unicodedata.normalize("NFKC", name.translate(IGNORED)).lower()
    name = unicodedata.normalize("NFC", name).translate(IGNORED).replace("\u3002", ".").replace("\uff61", ".")
    if name == "" or any(c in FORBIDDEN for c in name):
        raise Invalid
    if ends_in_a_number(name):
        return ipv4(name)
    return name


def verdict(text):
    while text and ord(text[0]) <= 0x20:
        text = text[1:]
    while text and ord(text[-1]) <= 0x20:
        text = text[:-1]
    text = text.translate(str.maketrans("", "", "\t\n\r"))
    scheme, colon, rest = text.partition(":")
    if not colon or scheme.lower() not in ("http", "https"):
        raise Invalid
    # No base URL: any number of slashes of either kind.
    rest = rest.lstrip("/\\")
    end = min([rest.find(c) for c in "/\\?#" if c in rest], default=len(rest))
    userinfo, at, place = rest[:end].rpartition("@")
    if at and userinfo not in ("", ":"):
        raise Invalid
    inside, split = False, None
    for n, c in enumerate(place):
        inside = c == "[" or (inside and c != "]")
        if c == ":" and not inside:
            split = n
            break
    host, port = (place, "") if split is None else (place[:split], place[split + 1 :])
    if host == "":
        raise Invalid
    if any(c not in "0123456789" for c in port) or (port != "" and not 0 < int(port) <= 65535):
        raise Invalid
    found = parsed_host(host)
    if isinstance(found, str):
        if found.rstrip(".") == "":
            raise Invalid
        return "name"
    return "public" if is_public(found) else "blocked"


for line in sys.stdin:
    try:
        print(verdict(json.loads(line)))
    except Invalid:
        print("invalid")
