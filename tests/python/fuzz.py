"""Runs schemathesis over every operation of the OpenAPI document of the server at SENDOFF_URL, as SENDOFF_TOKEN.

First everything that a path can name is made once, under the name `kept`; half of the calls that name something then name that
(`map_case`), but for those that would delete it. The one argument is the number of cases for each operation. What is left of
the command line goes to schemathesis.
"""

import os
import sys

import requests
import schemathesis
from schemathesis import GenerationMode

KEPT = "kept"
HERE = "http://127.0.0.1:9/"
CONFIG = os.path.join(os.path.dirname(__file__), "fuzz.toml")
URL, TOKEN = os.environ["SENDOFF_URL"], os.environ["SENDOFF_TOKEN"]

@schemathesis.hook
def map_case(context, case):
    """Names of things that exist, for half of the calls; and nothing is to be sent to a host out there."""
    names = case.path_parameters
    # The text decides, so that the same calls are made each time.
    if names and case.method != "DELETE" and sum(map(len, map(str, names.values()))) % 2 == 0:
        case.path_parameters = dict.fromkeys(names, KEPT)
    good = case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE
    if good and isinstance(case.body, dict) and isinstance(case.body.get("url"), str):
        case.body = {**case.body, "url": HERE}
    return case


def furnish():
    def make(method, path, body):
        answer = requests.request(method, f"{URL}/api/v1{path}", json=body, headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code in (200, 201, 202), (path, answer.status_code, answer.text)

    make("PUT", f"/event-type/{KEPT}", {"description": "kept", "schemas": {"1": {"type": "object"}}})
    make("PUT", f"/app/{KEPT}", {"name": "kept"})
    make("PUT", f"/app/{KEPT}/endpoint/{KEPT}", {"url": HERE, "disabled": True})
    make("PUT", f"/operational-webhook/endpoint/{KEPT}", {"url": HERE, "disabled": True})
    make("POST", f"/app/{KEPT}/msg", {"eventType": KEPT, "eventId": KEPT, "payload": {"a": 1}})


def main():
    furnish()
    from schemathesis.cli import schemathesis as command

    command(
        [
            "--config-file", CONFIG, "run", f"{URL}/api/v1/openapi.json", "--header", f"Authorization: Bearer {TOKEN}",
            "--seed", "4711", "--generation-database", "none", "--no-color", "--warnings", "off",
            # That would be the end of the token.
            "--exclude-path", "/api/v1/auth/logout",
            "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--max-examples", *sys.argv[1:],
        ]
    )


if __name__ == "__main__":
    os.environ["SCHEMATHESIS_HOOKS"] = "fuzz"
    main()
