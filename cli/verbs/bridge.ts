import type { Address } from "../../core/address.ts";
import {
  type BridgeContent,
  type BridgeResult,
  type BridgeStatus,
  bridge as makeBridge,
} from "../../patterns/migration/index.ts";
import { totalCount } from "../broker-statistics.ts";
import { problemJson } from "../comparison.ts";
import { CommandError, type ExitName, exitOf } from "../exit-codes.ts";
import { chooseBroker, chosenBroker, type Frame, type OpenBroker, withBroker } from "../frame.ts";
import { addressOf, destinationOf, findTarget, type Target } from "../target.ts";
import { type ProgressBar, progressBar } from "../terminal.ts";
import { type Ended, verb } from "../verb.ts";
import { toldText } from "../wording.ts";

const CONTENTS = ["messages", "dead-letters"] as const satisfies readonly BridgeContent[];

export const bridge = verb({
  name: "bridge",
  summary: "Move messages from one broker to another",
  teaches: `Moves messages to another broker, with ids, keys, headers and order per key. A message leaves the source after the target has confirmed it: a crash leaves it on both, under one id. Messages that the target refuses stay, and are reported. After Ctrl-C the same command continues.

Other consumers may share an unordered source only. The target has to exist.`,
  positionals: {
    source: {
      type: "string",
      demandOption: true,
      describe: "What to move: orders, queue:orders, topic:order.placed/billing",
    },
    target: { type: "string", describe: "Default: the same name on the target broker" },
  },
  options: {
    from: { type: "string", describe: "The source broker. Default --broker" },
    to: { type: "string", demandOption: true, describe: "The broker to move them to" },
    content: { choices: CONTENTS, default: "messages", describe: "What to move" },
    follow: { type: "boolean", default: false, describe: "Continue when the source is empty, until Ctrl-C" },
    rate: { type: "number", describe: "The most per second" },
    "dry-run": { type: "boolean", default: false, describe: "Only look at both ends" },
    yes: { type: "boolean", default: false, alias: "y", describe: "Do not ask" },
  },
  examples: [
    ["bridge orders --from old --to new --dry-run", "how many, and is the target there?"],
    ["bridge orders --from amqp://localhost --to kafka://localhost --rate 500 --yes", "no more than 500 a second"],
    ["bridge orders --to new --content dead-letters", "what is dead, to the dead letters there"],
  ],
  json: {
    from: "",
    to: "",
    source: "",
    target: "",
    dryRun: "",
    before: "messages on the source before",
    result:
      "`end` (`drained`, `stopped`, `failed`), `moved`, `repeated`, `left`, `filtered`, `leftMessages` (the first 100), `durationMs`, `error`",
  },
  exits: {
    partly: "",
    "not-found": "",
    unavailable: "",
    "not-allowed": "",
  },
  async run(given, frame) {
    const { configuration, context, secrets } = frame;
    const known = configuration.destinations ?? [];
    const source = sourceOf(findTarget(given.source, known));
    const target = given.target === undefined ? undefined : findTarget(given.target, known);
    const sources = { configuration, env: context.env, secrets };
    const from = given.from === undefined ? chosenBroker(frame) : chooseBroker(sources, given.from, "--from");
    const to = chooseBroker(sources, given.to, "--to");
    const there = destinationOf(target ?? source);
    return withBroker(frame, { chosen: from, destinations: [destinationOf(source)] }, (old) =>
      withBroker(frame, { chosen: to, destinations: [there] }, (fresh) =>
        move(frame, { from: old, to: fresh, source, target }, given),
      ),
    );
  },
});

function sourceOf(target: Target): Target {
  if (target.destination.kind === "queue" || target.subscription !== undefined) return target;
  throw new CommandError("usage", `a topic stores no messages: name a subscription, topic:${target.name}/subscription`);
}

/** The ends of a bridge. */
interface Ends {
  readonly from: OpenBroker;
  readonly to: OpenBroker;
  readonly source: Target;
  readonly target: Target | undefined;
}

interface Moving {
  readonly content: string;
  readonly follow: boolean;
  readonly rate: number | undefined;
  readonly "dry-run": boolean;
  readonly yes: boolean;
}

async function move(frame: Frame, { from, to, source, target }: Ends, given: Moving): Promise<Ended> {
  const { terminal, interruption } = frame;
  const { follow, rate, "dry-run": dryRun, yes } = given;
  const content = CONTENTS.find((one) => one === given.content) ?? "messages";
  let bar: ProgressBar | undefined;
  const running = makeBridge(from.broker, to.broker, {
    source: destinationOf(source),
    content,
    until: follow ? "stopped" : "drained",
    ...(target === undefined ? {} : { target: destinationOf(target) }),
    ...(rate === undefined ? {} : { rate }),
    onProgress: (status) => bar?.update(status.moved, detailOf(status)),
  });
  await running.check();
  const { source: sourceName, target: targetName } = running.status();
  const before = totalCount(await from.adapter.depth(placeOf(source, content)));
  const json = { from: from.label, to: to.label, source: sourceName, target: targetName, dryRun, before };
  const what = `${before} messages from ${sourceName} (${from.label}) to ${targetName} (${to.label})`;
  if (dryRun) {
    return { json: { ...json, result: null }, text: `would move ${what}; nothing was moved: --dry-run` };
  }
  await terminal.agreed(`Move ${what}?`, yes, interruption.signal);
  bar = progressBar(terminal, "moving", follow ? undefined : before);
  try {
    const result = await running.run({ signal: interruption.signal });
    const { error, leftMessages } = result;
    return {
      json: { ...json, result: resultJson(result) },
      text: resultText(result),
      errors: [...(error === undefined ? [] : [error]), ...leftMessages.map((one) => one.error)],
      exit: exitFor(result, follow),
    };
  } finally {
    bar.stop();
  }
}

function placeOf(source: Target, content: BridgeContent): Address {
  const address = addressOf(source);
  if (content === "messages" || (address.kind !== "queue" && address.kind !== "subscription")) return address;
  return { kind: content, of: address };
}

function detailOf({ rate, left, stalled }: BridgeStatus): string {
  const parts = [`${Math.round(rate)}/s`];
  if (left > 0) parts.push(`${left} left`);
  if (stalled !== undefined) parts.push(toldText(stalled));
  return parts.join(", ");
}

function resultJson({ error, leftMessages, durationMs, ...counts }: BridgeResult): Readonly<Record<string, unknown>> {
  return {
    ...counts,
    durationMs: Math.round(durationMs),
    leftMessages: leftMessages.map(({ id, error: why }) => ({ id, ...problemJson(why) })),
    error: error === undefined ? null : problemJson(error),
  };
}

function resultText({ end, moved, repeated, left, filtered, leftMessages, error }: BridgeResult): string {
  return [
    `moved ${moved}${repeated > 0 ? `, ${repeated} of them twice, under the same id` : ""}${left > 0 ? `; ${left} were refused and stay` : ""}`,
    ...(filtered > 0 ? [`${filtered} not moved: they do not match the filter of the source`] : []),
    ...leftMessages.slice(0, 10).map((one) => `refused: ${one.id}: ${toldText(one.error)}`),
    ...(end === "drained" ? ["the source is empty except for those"].filter(() => left > 0) : []),
    ...(end === "stopped" ? ["stopped; the same command continues"] : []),
    ...(error === undefined ? [] : [`failed: ${toldText(error)}`]),
  ].join("\n");
}

function exitFor({ end, moved, left, error }: BridgeResult, follow: boolean): ExitName {
  if (end === "failed") return moved > 0 ? "partly" : exitOf(error);
  if (left > 0) return "partly";
  if (end === "drained" || follow) return "done";
  return moved > 0 ? "partly" : "interrupted";
}
