# TOKEN=sk_poll_…
URL=https://hooks.example.com/api/v1/app/acme/poller/warehouse
# For the next page, add &iterator= with the iterator of this response.
curl -fsS -H "authorization: Bearer $TOKEN" "$URL?wait=20"
