import json, os, urllib.request

URL = "https://hooks.example.com/api/v1/app/acme/poller/warehouse/consumer/main"


def fetch(iterator, wait=20):
    """Names the iterator of the page before: so the server knows that all of it is handled."""
    query = f"?wait={wait}" + (f"&iterator={iterator}" if iterator else "")
    request = urllib.request.Request(URL + query, headers={"authorization": f"Bearer {os.environ['TOKEN']}"})
    with urllib.request.urlopen(request, timeout=wait + 10) as answer:
        return json.load(answer)


def run(handle, iterator=None):
    """For ever. A message comes again after a crash: handle it by its id."""
    while True:
        page = fetch(iterator)
        for message in page["data"]:
            handle(message)
        iterator = page["iterator"]
