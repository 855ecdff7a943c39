import base64, hashlib, hmac, time

SECRET = "whsec_…"  # the endpoint's secret


def verify(secret: str, headers: dict, body: bytes, tolerance: int = 300) -> None:
    """Raises ValueError unless `body`, the raw bytes of the request, was signed with `secret`.
    `headers` has the names in lower case."""
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(time.time() - int(timestamp)) > tolerance:
        raise ValueError("too old, or from the future")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    for signature in headers["webhook-signature"].split():
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value.encode(), wanted):
            return
    raise ValueError("no signature fits")
