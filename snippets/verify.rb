require "base64"
require "openssl"

SECRET = "whsec_…" # the endpoint's secret

# Raises unless +body+, the raw bytes of the request, was signed with +secret+.
def verify(secret, headers, body, tolerance: 300)
  id, timestamp = headers.fetch("webhook-id"), headers.fetch("webhook-timestamp")
  raise "timestamp outside the tolerance" if (Time.now.to_i - Integer(timestamp)).abs > tolerance

  key = Base64.strict_decode64(secret.delete_prefix("whsec_"))
  expected = OpenSSL::HMAC.digest("SHA256", key, "#{id}.#{timestamp}.".b + body.b)
  matches = headers.fetch("webhook-signature").split.any? do |signature|
    version, value = signature.split(",", 2)
    given = Base64.decode64(value.to_s)
    version == "v1" && given.bytesize == expected.bytesize && OpenSSL.fixed_length_secure_compare(given, expected)
  end
  raise "no matching signature" unless matches
end
