const url = "https://hooks.example.com/api/v1/app/acme/poller/warehouse/consumer/main";

// Names the iterator of the page before: so the server knows that all of it is handled.
export async function fetchPage(iterator, wait = 20) {
  const query = new URLSearchParams(iterator ? { wait, iterator } : { wait });
  const answer = await fetch(`${url}?${query}`, { headers: { authorization: `Bearer ${process.env.TOKEN}` } });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return answer.json();
}

// For ever. A message comes again after a crash: handle it by its id.
export async function run(handle, iterator) {
  for (;;) {
    const page = await fetchPage(iterator);
    for (const message of page.data) await handle(message);
    ({ iterator } = page);
  }
}
