import hashlib, hmac, time

SECRET = "whsec_…"  # the endpoint's secret


def verify(secret: str, headers: dict, body: bytes, tolerance: int = 300) -> None:
    """Raises ValueError unless `body`, the raw bytes of the request, was signed with `secret`.
    Names in `headers` are in lower case."""
    parts = [part.partition("=") for part in headers["x-signature"].split(",")]
    timestamp = next(value for name, _, value in parts if name == "t")
    if abs(time.time() - int(timestamp)) > tolerance:
        raise ValueError("timestamp outside the tolerance")
    signed = timestamp.encode() + b"." + body
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    for name, _, value in parts:
        if name == "v1" and hmac.compare_digest(value.encode(), expected.encode()):
            return
    raise ValueError("no matching signature")
