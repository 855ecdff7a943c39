const url = "https://hooks.example.com/api/v1/app/acme/poller/warehouse/consumer/main";
const token = process.env.TOKEN; // sk_poll_…

// Passing a page's iterator confirms that the page is handled.
export async function fetchPage(iterator, wait = 20) {
  const query = new URLSearchParams(iterator ? { wait, iterator } : { wait });
  const response = await fetch(`${url}?${query}`, { headers: { authorization: `Bearer ${token}` } });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return response.json();
}

// Runs forever. A crash repeats messages, so deduplicate them by id.
export async function run(handle, iterator) {
  for (;;) {
    const page = await fetchPage(iterator);
    for (const message of page.data) await handle(message);
    ({ iterator } = page);
  }
}
