import json, os, urllib.request

URL = "https://hooks.example.com/api/v1/app/acme/poller/warehouse/consumer/main"
TOKEN = os.environ["TOKEN"]  # sk_poll_…


def fetch(iterator, wait=20):
    """Passing a page's iterator confirms that the page is handled."""
    query = f"?wait={wait}" + (f"&iterator={iterator}" if iterator else "")
    request = urllib.request.Request(URL + query, headers={"authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=wait + 10) as response:
        return json.load(response)


def run(handle, iterator=None):
    """Runs forever. A crash repeats messages, so deduplicate them by id."""
    while True:
        page = fetch(iterator)
        for message in page["data"]:
            handle(message)
        iterator = page["iterator"]
