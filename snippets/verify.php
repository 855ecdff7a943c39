<?php

const SECRET = 'whsec_…'; // the endpoint's secret

/** Throws unless $body, the raw bytes of the request, was signed with $secret. */
function verify(string $secret, array $headers, string $body, int $tolerance = 300): void
{
    $id = $headers['webhook-id'];
    $timestamp = $headers['webhook-timestamp'];
    if (abs(time() - (int) $timestamp) > $tolerance) {
        throw new RuntimeException('timestamp outside the tolerance');
    }
    $key = base64_decode(substr($secret, strlen('whsec_')), true);
    $expected = base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    foreach (explode(' ', $headers['webhook-signature']) as $signature) {
        [$version, $value] = explode(',', $signature, 2) + ['', ''];
        if ($version === 'v1' && hash_equals($expected, $value)) {
            return;
        }
    }
    throw new RuntimeException('no matching signature');
}
