<?php

const URL = 'https://hooks.example.com/api/v1/app/acme/poller/warehouse/consumer/main';
define('TOKEN', getenv('TOKEN')); // sk_poll_…

/** Passing a page's iterator confirms that the page is handled. */
function fetch(?string $iterator = null, int $wait = 20): array
{
    $query = http_build_query(['wait' => $wait, 'iterator' => $iterator]);
    $options = ['header' => 'authorization: Bearer ' . TOKEN, 'timeout' => $wait + 10, 'ignore_errors' => true];
    $body = file_get_contents(URL . "?$query", false, stream_context_create(['http' => $options]));
    if ($body === false || !str_contains($http_response_header[0], ' 200 ')) {
        throw new RuntimeException($body === false ? 'no response' : "$http_response_header[0]: $body");
    }
    return json_decode($body, true, flags: JSON_THROW_ON_ERROR);
}

/** Runs forever. A crash repeats messages, so deduplicate them by id. */
function run(callable $handle, ?string $iterator = null): void
{
    while (true) {
        $page = fetch($iterator);
        array_walk($page['data'], $handle);
        $iterator = $page['iterator'];
    }
}
