# TOKEN=sk_poll_…
URL=https://hooks.example.com/api/v1/app/acme/poller/warehouse
# The next page: ?iterator= with the iterator of the answer before.
curl -fsS -H "authorization: Bearer $TOKEN" "$URL?wait=20"
