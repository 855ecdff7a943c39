// Walks through the API with the official `svix` client as its users do, with a receiver of its own at the other end; says "all is well"
// at the end. The server must have a schedule of two waits, both of them short. Runs on Node 18 and newer.

import { client } from "./client.mjs";
import * as deliveries from "./deliveries.mjs";
import { OLD } from "./majors.mjs";
import { messages, messagesOfAllKinds } from "./messages.mjs";
import { autoconfig, destinations, destinationsByHand, polling, pollingTokens } from "./polling.mjs";
import { Receiver } from "./receiver.mjs";
import { applications, endpoints, eventTypes } from "./resources.mjs";
import { customers, operationalWebhooks, strangers } from "./team.mjs";

const steps = [
  applications,
  eventTypes,
  endpoints,
  messages,
  messagesOfAllKinds,
  deliveries.whatArrives,
  deliveries.attempts,
  deliveries.whatAnEndpointWasSent,
  deliveries.backgroundTasks,
  deliveries.examples,
  operationalWebhooks,
  OLD ? destinationsByHand : destinations,
  polling,
  pollingTokens,
  ...(OLD ? [] : [autoconfig]),
  customers,
  strangers,
];

const receiver = await new Receiver().listen();
const svix = client(process.env.SENDOFF_TOKEN);
try {
  for (const step of steps) await step(svix, receiver);
} finally {
  receiver.close();
}
console.log("all is well");
