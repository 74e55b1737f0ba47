import { isMessagingError } from "../../core/errors.ts";
import type { SendOptions } from "../../core/options.ts";
import { Faults } from "./faults.ts";
import { Ledger, type Sent } from "./ledger.ts";
import { Prng } from "./prng.ts";
import { SimulatedAdapter } from "./simulated-adapter.ts";
import { type Mutation, SimulatedBroker } from "./simulated-broker.ts";
import { SimulatedProcess } from "./simulated-process.ts";
import type { Variant } from "./variant.ts";
import { VirtualTime } from "./virtual-time.ts";
import { type Destinations, destinationsOf, type Plan, SOURCES, type Work } from "./work.ts";

const ALWAYS = 1_000_000;

/** A broker, its processes, what they send, and what goes wrong. */
export class World {
  readonly time = new VirtualTime();
  readonly ledger: Ledger;
  readonly broker: SimulatedBroker;
  readonly processes: SimulatedProcess[] = [];
  readonly variant: Variant;
  readonly #prng: Prng;
  readonly #faults: Faults;
  /** Drawn apart, so that seeds which once failed go on to mean what they meant. */
  readonly #refusals: Prng;
  readonly #destinations: Destinations;
  #generation = 0;
  #healed = false;
  #sends = 0;
  #open = 0;
  #poisons = 0;

  constructor(seed: number, variant: Variant, mutation: Mutation | undefined) {
    this.variant = variant;
    this.#prng = new Prng(`${seed}`).fork("world");
    this.#refusals = new Prng(`${seed}`).fork("refusals");
    const ordered = [...(variant.queueOrdered ? SOURCES.queue : []), ...(variant.topicOrdered ? SOURCES.topic : [])];
    this.ledger = new Ledger(new Set(ordered), () => this.time.now);
    this.broker = new SimulatedBroker(
      this.time,
      this.#prng.fork("broker"),
      this.ledger,
      variant.leaseMs !== undefined,
      mutation,
    );
    this.#faults = new Faults(this.#prng.fork("faults"), variant);
    this.#destinations = destinationsOf(variant);
    for (let slot = 0; slot < variant.processes; slot++) this.#spawn(slot);
  }

  #spawn(slot: number): void {
    const name = `p${slot}.${this.#generation++}`;
    const { time, ledger, variant } = this;
    const adapter = new SimulatedAdapter(this.broker, this.#faults, variant);
    const parts = { adapter, time, ledger, variant, prng: this.#prng.fork(name) };
    const process = new SimulatedProcess(name, parts, this.#destinations, (dying) => this.#kill(slot, dying));
    this.processes[slot] = process;
    process.start();
  }

  #kill(slot: number, process: SimulatedProcess): void {
    if (process.dead) return;
    this.ledger.log(`kill ${process.name}`);
    process.kill();
    for (const sent of this.ledger.sent.values()) {
      if (sent.outcome !== undefined || this.#home.get(sent) !== process) continue;
      sent.outcome = "died";
      this.#open--;
    }
    this.time.schedule(() => this.#spawn(slot), this.#prng.between(100, 3_000));
  }

  readonly #home = new Map<Sent, SimulatedProcess>();

  /** Lets all of it happen until it has healed and nothing is left to do. Returns whether that came about. */
  async live(): Promise<boolean> {
    const { chaosMs, messages } = this.variant;
    for (let number = 0; number < messages; number++) {
      this.time.schedule(() => this.#send(), this.#prng.between(0, chaosMs * 0.8));
    }
    this.time.schedule(() => this.#sendForeign(), this.#prng.between(chaosMs * 0.5, chaosMs * 0.8));
    const actions = this.#actions();
    if (actions.length > 0) {
      for (let count = this.#prng.between(3, 25); count > 0; count--) {
        this.time.schedule(() => this.#act(this.#prng.pick(actions)), this.#prng.between(0, chaosMs));
      }
    }
    this.time.schedule(() => this.#heal(), chaosMs);
    return this.time.until(() => this.#quiet(), chaosMs + 3_600_000);
  }

  #quiet(): boolean {
    for (const process of this.processes) process.inspect();
    if (!this.#healed || this.#open > 0 || !this.processes.every(({ idle }) => idle)) return false;
    for (const { address, standing } of this.broker.places) {
      if (address.kind !== "dead-letters" && standing.length > 0) return false;
    }
    return true;
  }

  /** Stops everything. Returns whether that came to an end. */
  async end(): Promise<boolean> {
    let left = this.processes.length;
    for (const process of this.processes) process.stop(1_000).then(() => left--);
    return this.time.until(() => left === 0, this.time.now + 60_000);
  }

  #heal(): void {
    this.ledger.log("heal");
    this.#healed = true;
    this.#faults.heal();
    for (const process of this.processes) {
      if (process.dead) continue;
      for (const consumer of process.consumers) consumer.resume();
      if (process.broker.status().state !== "started") process.start();
    }
  }

  #actions(): readonly string[] {
    const handOver = this.variant.handsOver ? ["hand over", "hand over", "hand over"] : [];
    const network = ["restart", "cut", "cut", "block", "refuse copies", "lapse", "lapse", ...handOver];
    const churn = ["stop", "stop", "pause", "resume", "concurrency", ...handOver];
    switch (this.variant.profile) {
      case "network":
        return [...network, "pause", "resume", "concurrency"];
      case "churn":
        return [...churn, "kill"];
      case "everything":
        return [...network, ...churn, "kill"];
      case "poison":
      case "poisons":
        return ["pause", "resume", "concurrency"];
      case "calm":
        return [];
    }
  }

  #act(action: string): void {
    const slot = this.#prng.between(0, this.processes.length - 1);
    const process = this.processes[slot];
    const consumer = process?.consumers[this.#prng.between(0, 2)];
    if (process === undefined || consumer === undefined || process.dead || this.#healed) return;
    this.ledger.log(`${action} ${process.name}`);
    switch (action) {
      case "cut":
        process.adapter.cut(this.#prng.pick([0, 100, 2_000]), this.#prng.pick([10, 500, 8_000]));
        break;
      case "restart":
        this.#restart();
        break;
      case "block":
        process.adapter.block(this.#prng.between(10, 10_000));
        break;
      case "refuse copies":
        this.#faults.refusesCopies = this.#refusals.pick(["refused", "too-large", "unauthorized"]);
        this.time.schedule(
          () => {
            this.#faults.refusesCopies = undefined;
          },
          this.#prng.between(100, 10_000),
        );
        break;
      case "lapse": {
        const receivers = process.adapter.receivers.filter(({ leaseMs }) => leaseMs !== undefined);
        if (receivers.length > 0) this.#prng.pick(receivers).lapseOne((count) => this.#prng.between(0, count - 1));
        break;
      }
      case "hand over":
        for (const receiver of process.adapter.receivers) receiver.handOver(this.#prng.pick([50, 3_000, 20_000]));
        break;
      case "stop":
        process.stop(this.#prng.pick([0, 300, 10_000]));
        this.time.schedule(
          () => {
            if (!process.dead) process.start();
          },
          this.#prng.pick([0, 20, 1_000, 9_000]),
        );
        break;
      case "kill":
        this.#kill(slot, process);
        break;
      case "pause":
        consumer.pause();
        break;
      case "resume":
        consumer.resume();
        break;
      case "concurrency":
        consumer.setConcurrency(this.#prng.between(1, 30));
        break;
    }
  }

  /** The broker restarts. In order it offers what it holds to each consumer in turn, as their connections break. */
  #restart(): void {
    for (const { ordered, standing, takers } of this.broker.places) {
      if (!ordered) continue;
      for (const one of standing) if (one.holder !== undefined) one.redeliveries += Math.max(takers.length - 1, 0);
    }
    for (const process of this.processes) process.adapter.cut(0, this.#prng.pick([10, 500, 8_000]));
  }

  /** Another sender, with other libraries and other ideas of what a body is. */
  #sendForeign(): void {
    for (const [number, body] of ["{", '{"number":"one"}', '{"__proto__":1}'].entries()) {
      const bytes = Buffer.from(body);
      const place = this.broker.place({ kind: "queue", name: SOURCES.queue[0] });
      if (place === undefined) return;
      this.broker.store(place.address, {
        id: `foreign-${number}`,
        key: undefined,
        routingKey: undefined,
        headers: Object.create(null),
        body: bytes,
        contentType: "application/json",
        size: bytes.length,
        priority: 0,
        delayMs: 0,
        ttlMs: undefined,
      });
    }
  }

  #plan(toQueue: boolean): Plan {
    const { attempts, profile } = this.variant;
    const poisons = profile === "poisons" || profile === "everything" ? 3 : profile === "poison" ? 1 : 0;
    const workMs = this.#prng.pick([0, 0, 5, 50, 500, 1_200]);
    if (toQueue && this.#poisons < poisons && this.#prng.chance(0.2)) {
      this.#poisons++;
      return { kind: "poison", times: profile === "poison" ? ALWAYS : this.#prng.pick([1, ALWAYS]), workMs };
    }
    const kind = this.#prng.pick([
      "ok",
      "ok",
      "ok",
      "postpone",
      "throw",
      "reject",
      "retry",
      "dead-letter",
      "hang",
      "ignore",
    ]);
    const times = kind === "dead-letter" ? ALWAYS : this.#prng.between(1, attempts + 1);
    return { kind, times, workMs } as Plan;
  }

  #send(): void {
    const number = this.#sends++;
    const toQueue = this.#prng.chance(0.6);
    const plan = this.#plan(toQueue);
    const { queue, topic } = this.#destinations;
    const ordered = (toQueue ? queue : topic).options.ordered === true;
    const keyNumber = this.#prng.between(0, this.variant.keys);
    const key = keyNumber === 0 ? undefined : `key-${keyNumber}`;
    // What is in order comes from one caller: each key has its home.
    const slot = (ordered ? keyNumber : number) % this.processes.length;
    const process = this.processes[slot];
    if (process === undefined || process.dead) return;
    const id = `id-${number}`;
    const delayed = !ordered && this.variant.maxDelayMs > 0 && this.#prng.chance(0.3);
    const delayMs = delayed ? this.#prng.between(1, 5_000) : 0;
    const ttlMs = this.#prng.chance(0.1) ? this.#prng.between(1, 3_000) : undefined;
    const headers = this.#prng.chance(0.3) ? { number: `${number}` } : {};
    const timeoutMs = this.#prng.chance(0.2) ? this.#prng.between(1, 2_000) : this.variant.publishTimeoutMs;
    const sources = toQueue ? SOURCES.queue : SOURCES.topic;
    const sent: Sent = {
      id,
      number,
      sources,
      key,
      plan,
      at: this.time.now,
      delayMs,
      ttlMs,
      headers,
      outcome: undefined,
    };
    this.ledger.sending(sent);
    this.#home.set(sent, process);
    this.#open++;
    const options: SendOptions = {
      id,
      headers,
      timeoutMs,
      ...(key === undefined ? {} : { key }),
      ...(delayMs === 0 ? {} : { delayMs }),
      ...(ttlMs === undefined ? {} : { ttlMs }),
    };
    const valid = !this.#prng.chance(0.03);
    const body = (valid ? { number, plan } : { number: "none", plan }) as Work;
    const sending = toQueue ? process.broker.send(queue, body, options) : process.broker.publish(topic, body, options);
    const deadline = this.time.now + timeoutMs;
    const end = (outcome: string): void => {
      if (process.dead) return;
      this.#open--;
      if (!valid && outcome !== "invalid" && outcome !== "closed")
        this.ledger.violated(`send ${number} was ${outcome}`);
      this.ledger.ended(sent, outcome, deadline);
    };
    sending.then(
      () => end("confirmed"),
      (error: unknown) => end(isMessagingError(error) ? error.code : String(error)),
    );
  }
}
