import base64, hashlib, hmac, time

SECRET = "whsec_…"  # the endpoint's secret


def verify(secret: str, headers: dict, body: bytes, tolerance: int = 300) -> None:
    """Raises ValueError unless `body`, the raw bytes of the request, was signed with `secret`.
    Names in `headers` are in lower case."""
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(time.time() - int(timestamp)) > tolerance:
        raise ValueError("timestamp outside the tolerance")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    for signature in headers["webhook-signature"].split():
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value.encode(), expected):
            return
    raise ValueError("no matching signature")
