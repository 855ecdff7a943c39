import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Base64;
import java.util.Map;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

class Verify {
    static final String SECRET = "whsec_…"; // the endpoint's secret

    /** Throws unless body, the raw bytes of the request, was signed with secret. */
    static void verify(String secret, Map<String, String> headers, byte[] body) throws GeneralSecurityException {
        String id = headers.get("webhook-id");
        String timestamp = headers.get("webhook-timestamp");
        if (Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp)) > 300) {
            throw new GeneralSecurityException("timestamp outside the tolerance");
        }
        byte[] key = Base64.getDecoder().decode(secret.replaceFirst("^whsec_", ""));
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
        byte[] expected = Base64.getEncoder().encode(mac.doFinal(body));
        for (String signature : headers.get("webhook-signature").split(" ")) {
            byte[] given = signature.replaceFirst("^v1,", "").getBytes(StandardCharsets.UTF_8);
            if (signature.startsWith("v1,") && MessageDigest.isEqual(given, expected)) {
                return;
            }
        }
        throw new GeneralSecurityException("no matching signature");
    }
}
