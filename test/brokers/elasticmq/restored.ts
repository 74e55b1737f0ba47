import type { BrokerControls } from "../contract.ts";
import type { Ready } from "../process-controls.ts";
import { awaitSQS, queueUrls, SQS_READY_MS } from "../sqs/await-sqs.ts";

/**
 * Controls after which every queue is there again. ElasticMQ takes connections first and reads its queues back in then:
 * for a moment it says of each that it does not exist. These wait for all that were there before the fault.
 */
export function withQueuesRestored(url: string, controlsOf: (ready: Ready) => BrokerControls): BrokerControls {
  let queues: readonly string[] = [];
  const controls = controlsOf((signal) => awaitSQS(url, SQS_READY_MS, { queues, signal }));
  const remember = async () => {
    queues = await queueUrls(url).catch(() => queues);
  };
  return {
    ...controls,
    restart: async () => {
      await remember();
      await controls.restart();
    },
    kill: async () => {
      await remember();
      await controls.kill();
    },
  };
}
