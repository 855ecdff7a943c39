import hashlib, hmac

SECRET = "whsec_…"  # the endpoint's secret


def verify(secret: str, headers: dict, body: bytes) -> None:
    """Raises ValueError unless `body`, the raw bytes of the request, was signed with `secret`.
    Names in `headers` are in lower case."""
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(headers["x-signature"].encode(), expected.encode()):
        raise ValueError("no matching signature")
