#!/usr/bin/env bash
# Creates an application and an endpoint, sends a message and prints its attempts.
#
#     sendoff serve                                     # in one terminal
#     examples/quick-tour.sh https://example.com/hook   # in another, in the same folder, for `sendoff token`
set -euo pipefail

receiver=${1:?usage: quick-tour.sh URL}
api=${SENDOFF_PUBLIC_URL:-http://127.0.0.1:8071}/api/v1
token=$(sendoff token)

call() { curl --silent --show-error --fail-with-body -H "authorization: Bearer $token" -H 'content-type: application/json' "$@"; echo; }

call "$api/app/?get_if_exists=true" -d '{"name": "Acme", "uid": "acme"}'
call "$api/app/acme/endpoint/" -d "{\"url\": \"$receiver\"}"
message=$(call "$api/app/acme/msg/" -d '{"eventType": "invoice.paid", "payload": {"invoiceId": "inv-1", "amount": 48.5}}')
id=$(sed -E 's/.*"id": ?"(msg_[a-z0-9]+)".*/\1/' <<<"$message")
echo "sent: $id"
sleep 1
call "$api/app/acme/attempt/msg/$id/"
