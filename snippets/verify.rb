require "base64"
require "openssl"

SECRET = "whsec_…" # the endpoint's secret

# Raises unless +body+, the raw bytes of the request, was signed with +secret+.
def verify(secret, headers, body, tolerance: 300)
  id, timestamp = headers.fetch("webhook-id"), headers.fetch("webhook-timestamp")
  raise "too old, or from the future" if (Time.now.to_i - Integer(timestamp)).abs > tolerance

  key = Base64.strict_decode64(secret.delete_prefix("whsec_"))
  wanted = OpenSSL::HMAC.digest("SHA256", key, "#{id}.#{timestamp}.".b + body.b)
  fits = headers.fetch("webhook-signature").split.any? do |signature|
    version, value = signature.split(",", 2)
    given = Base64.decode64(value.to_s)
    version == "v1" && given.bytesize == wanted.bytesize && OpenSSL.fixed_length_secure_compare(given, wanted)
  end
  raise "no signature fits" unless fits
end
