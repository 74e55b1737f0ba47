import { ListTopicsCommand } from "@aws-sdk/client-sns";
import { GetQueueUrlCommand } from "@aws-sdk/client-sqs";
import { type Address, describeAddress, type TopicAddress } from "../../core/address.ts";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { AnswerShapeError, type Clients } from "./connection.ts";
import { asMessagingError, isMissing } from "./errors.ts";
import { awsName, FIFO, kindsOf } from "./names.ts";

/** A million topics or subscriptions, ten times as many topics as AWS lets an account have of itself. */
const MOST_PAGES = 10_000;
/** Those of AWS have some hundred characters. */
const LONGEST_TOKEN = 10_000;

/**
 * The pages of a listing, one after another; `ask` gives the one that a token leads to, the first without. Rejects with an
 * {@link AnswerShapeError} for what would never end: a token that comes again, or over 10,000 pages.
 */
export async function* pagesOf<Page extends { readonly NextToken?: string | undefined }>(
  what: string,
  ask: (token: { readonly NextToken?: string }) => Promise<Page>,
): AsyncGenerator<Page> {
  const seen = new Set<string>();
  let page = await ask({});
  yield page;
  for (let { NextToken } = page; NextToken; { NextToken } = page) {
    const none = `what lists ${what} is no SNS: `;
    if (NextToken.length > LONGEST_TOKEN || seen.has(NextToken)) {
      throw new AnswerShapeError(`${none}its pages lead back to one that was read, or nowhere`);
    }
    if (seen.size >= MOST_PAGES) throw new AnswerShapeError(`${none}it has over ${MOST_PAGES} pages`);
    seen.add(NextToken);
    page = await ask({ NextToken });
    yield page;
  }
}

/** Where an address stands on AWS. */
export interface Place {
  readonly kind: "queue" | "topic";
  /** The URL of a queue, the ARN of a topic. */
  readonly locator: string;
  readonly fifo: boolean;
}

/** Finds queues and topics by name, and remembers them. */
export class Registry {
  readonly #clients: Clients;
  readonly #prefix: string;
  readonly #known = new Map<string, Place>();
  readonly #asked = new Map<string, Promise<Place>>();
  /** The list of topics that is being fetched: one is enough for all who ask meanwhile. */
  #listing: Promise<ReadonlyMap<string, string>> | undefined;

  constructor(clients: Clients, prefix: string) {
    this.#clients = clients;
    this.#prefix = prefix;
  }

  name(address: Address): string {
    return awsName(address, this.#prefix);
  }

  /** What is known without asking. */
  known(address: Address): Place | undefined {
    return this.#known.get(keyOf(address, this.name(address)));
  }

  learn(address: Address, place: Place): void {
    this.#known.set(keyOf(address, this.name(address)), place);
  }

  forget(address: Address): void {
    this.#known.delete(keyOf(address, this.name(address)));
  }

  /** Rejects with `not-found` if neither the plain one nor the FIFO one stands, with `conflict` if both do. */
  find(address: Address): Promise<Place> {
    const key = keyOf(address, this.name(address));
    const known = this.#known.get(key);
    if (known !== undefined) return Promise.resolve(known);
    let asked = this.#asked.get(key);
    if (asked === undefined) {
      asked = this.#look(address).finally(() => this.#asked.delete(key));
      this.#asked.set(key, asked);
    }
    return asked;
  }

  async #look(address: Address): Promise<Place> {
    const name = this.name(address);
    const places = address.kind === "topic" ? await this.topics(address) : await this.#queues(address, name);
    const [place, other] = places;
    if (other !== undefined) {
      throw new MessagingError(
        "conflict",
        `${describeAddress(address)} exists twice, as "${name}" and "${name}${FIFO}"; remove the one that is not used, or declare it in this process`,
      );
    }
    if (place === undefined) throw this.notFound(address);
    this.learn(address, place);
    return place;
  }

  notFound(address: Address): MessagingError {
    const name = this.name(address);
    const looked = kindsOf(address).includes(true) ? `neither as "${name}" nor as "${name}${FIFO}"` : `as "${name}"`;
    return new MessagingError(
      "not-found",
      `${describeAddress(address)} does not exist on ${address.kind === "topic" ? "SNS" : "SQS"}, ${looked}; ${DECLARE_IT}, or check region, endpoint and account`,
    );
  }

  async #queues(address: Address, name: string): Promise<readonly Place[]> {
    const places: Place[] = [];
    let refused: unknown;
    for (const fifo of kindsOf(address)) {
      try {
        const url = await this.queueUrl(address, fifo ? name + FIFO : name);
        if (url !== undefined) places.push({ kind: "queue", locator: url, fifo });
      } catch (error) {
        // The least right is for one of them. The other is then none of ours.
        if (!isMessagingError(error) || error.code !== "unauthorized") throw error;
        refused = error;
      }
    }
    if (places.length === 0 && refused !== undefined) throw refused;
    return places;
  }

  /** The URL of a queue by its full name; undefined if there is none. */
  async queueUrl(address: Address, name: string): Promise<string | undefined> {
    try {
      const { QueueUrl } = await this.#clients.control.sqs.send(new GetQueueUrlCommand({ QueueName: name }));
      return QueueUrl;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw asMessagingError(`looking for ${describeAddress(address)}`, error);
    }
  }

  /** Where a topic stands: as a standard one, as a FIFO one, as both or as neither. */
  async topics(address: TopicAddress): Promise<readonly Place[]> {
    const name = this.name(address);
    this.#listing ??= this.#listTopics().finally(() => {
      this.#listing = undefined;
    });
    try {
      const standing = await this.#listing;
      return [false, true].flatMap((fifo) => {
        const locator = standing.get(fifo ? name + FIFO : name);
        return locator === undefined ? [] : [{ kind: "topic", locator, fifo }];
      });
    } catch (error) {
      throw asMessagingError(`looking for ${describeAddress(address)}`, error);
    }
  }

  /** The ARNs of all topics by their names: SNS does not tell the ARN of one. */
  async #listTopics(): Promise<ReadonlyMap<string, string>> {
    const standing = new Map<string, string>();
    const { sns } = this.#clients.control;
    for await (const { Topics = [] } of pagesOf("topics", (token) => sns.send(new ListTopicsCommand(token)))) {
      for (const { TopicArn = "" } of Topics) standing.set(TopicArn.slice(TopicArn.lastIndexOf(":") + 1), TopicArn);
    }
    return standing;
  }
}

function keyOf(address: Address, name: string): string {
  return `${address.kind === "topic" ? "topic" : "queue"} ${name}`;
}
