# To try by hand what arrived: the headers in variables, the body as it came in the file body.
# A receiver compares in constant time, which a shell does not.
secret='whsec_…'     # the endpoint's secret
id='msg_…'           # webhook-id
timestamp='…'        # webhook-timestamp
signatures='v1,…'    # webhook-signature

now=$(date +%s)
if [ "$timestamp" -lt $((now - 300)) ] || [ "$timestamp" -gt $((now + 300)) ]; then
  echo "too old, or from the future"; exit 1
fi
key=$(printf %s "${secret#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
wanted=$({ printf %s "$id.$timestamp."; cat body; } \
  | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
case " $signatures " in
  *" v1,$wanted "*) echo "genuine" ;;
  *) echo "no signature fits"; exit 1 ;;
esac
