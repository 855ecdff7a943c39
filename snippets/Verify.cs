using System;
using System.Collections.Generic;
using System.Security.Cryptography;
using System.Text;

static class Webhooks
{
    const string Secret = "whsec_…"; // the endpoint's secret

    /// <summary>Throws unless body, the raw bytes of the request, was signed with secret.</summary>
    public static void Verify(string secret, IDictionary<string, string> headers, byte[] body)
    {
        string id = headers["webhook-id"], timestamp = headers["webhook-timestamp"];
        if (Math.Abs(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - long.Parse(timestamp)) > 300)
            throw new CryptographicException("timestamp outside the tolerance");

        byte[] key = Convert.FromBase64String(secret["whsec_".Length..]);
        byte[] head = Encoding.UTF8.GetBytes($"{id}.{timestamp}.");
        byte[] signed = new byte[head.Length + body.Length];
        head.CopyTo(signed, 0);
        body.CopyTo(signed, head.Length);
        byte[] expected = Encoding.ASCII.GetBytes(Convert.ToBase64String(HMACSHA256.HashData(key, signed)));
        foreach (string signature in headers["webhook-signature"].Split(' '))
        {
            if (signature.StartsWith("v1,")
                && CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(signature[3..]), expected))
                return;
        }
        throw new CryptographicException("no matching signature");
    }
}
