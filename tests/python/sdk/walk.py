"""Walks through the API with the official `svix` client as its users do, sync or async as the one argument says, with a receiver of its
own at the other end; says "all is well" at the end. The server must have a schedule of two waits, both of them short.
"""

import asyncio
import os
import sys

import deliveries
import messages
import polling
import resources
import team
from client import Client
from majors import OLD
from receiver import Receiver

STEPS = [
    resources.applications,
    resources.event_types,
    resources.endpoints,
    messages.messages,
    messages.messages_of_all_kinds,
    deliveries.what_arrives,
    deliveries.attempts,
    deliveries.messages_sent_to_an_endpoint_are_listed,
    deliveries.background_tasks,
    deliveries.examples,
    team.operational_webhooks,
    polling.destinations_by_hand if OLD else polling.destinations,
    polling.polling,
    polling.polling_tokens,
    *([] if OLD else [polling.autoconfig]),
    team.customers,
    team.strangers,
]


async def main(kind):
    svix, receiver = Client(kind, os.environ["SENDOFF_TOKEN"]), Receiver()
    for step in STEPS:
        await step(svix, receiver)


asyncio.run(main(sys.argv[1]))
print("all is well")
