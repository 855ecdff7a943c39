# Verifies one request by hand: headers in variables, the raw body in the file `body`.
# For debugging only: a receiver must compare in constant time.
secret='whsec_…'     # the endpoint's secret
id='msg_…'           # webhook-id
timestamp='…'        # webhook-timestamp
signatures='v1,…'    # webhook-signature

now=$(date +%s)
if [ "$timestamp" -lt $((now - 300)) ] || [ "$timestamp" -gt $((now + 300)) ]; then
  echo "timestamp outside the tolerance"; exit 1
fi
key=$(printf %s "${secret#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
expected=$({ printf %s "$id.$timestamp."; cat body; } \
  | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
case " $signatures " in
  *" v1,$expected "*) echo "valid" ;;
  *) echo "no matching signature"; exit 1 ;;
esac
