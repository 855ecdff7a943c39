#!/usr/bin/env bash
# The README's quick tour in one go: makes an application and an endpoint, sends a message, shows its attempts.
#
#     sendoff serve                                     # in one terminal
#     examples/quick-tour.sh https://example.com/hook   # in another, in the same folder: it asks `sendoff token`
set -euo pipefail

receiver=${1:?a URL that takes POSTs, such as https://example.com/hook}
api=${SENDOFF_PUBLIC_URL:-http://127.0.0.1:8071}/api/v1
token=$(sendoff token)

ask() { curl --silent --show-error --fail-with-body -H "authorization: Bearer $token" -H 'content-type: application/json' "$@"; echo; }

ask "$api/app/?get_if_exists=true" -d '{"name": "Acme", "uid": "acme"}'
ask "$api/app/acme/endpoint/" -d "{\"url\": \"$receiver\"}"
message=$(ask "$api/app/acme/msg/" -d '{"eventType": "invoice.paid", "payload": {"invoiceId": "inv-1", "amount": 48.5}}')
id=$(sed -E 's/.*"id": ?"(msg_[a-z0-9]+)".*/\1/' <<<"$message")
echo "sent: $id"
sleep 1
ask "$api/app/acme/attempt/msg/$id/"
