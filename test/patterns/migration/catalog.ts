import { type Destination, type Queue, queue, subscription, type Topic, topic } from "../../../core/destination.ts";

/** What a message says of its place in its key. */
export interface Numbered {
  readonly customer: string;
  readonly n: number;
}

/** What moves: names with a prefix of their own where a broker is shared. */
export interface Catalog {
  readonly orders: Queue<Numbered>;
  readonly emails: Queue<Numbered>;
  readonly placed: Topic<Numbered>;
  readonly destinations: readonly Destination[];
  readonly sources: Readonly<Record<"orders" | "emails" | "billing" | "shipping", string>>;
}

export function catalog(prefix = ""): Catalog {
  const key = ({ customer }: Numbered): string => customer;
  const orders = queue<Numbered>(`${prefix}orders`, { key, ordered: true });
  const emails = queue<Numbered>(`${prefix}emails`, { key });
  const placed = topic<Numbered>(`${prefix}placed`, { key, ordered: true });
  return {
    orders,
    emails,
    placed,
    destinations: [orders, emails, placed, subscription(placed, "billing"), subscription(placed, "shipping")],
    sources: {
      orders: orders.name,
      emails: emails.name,
      billing: `${placed.name}..billing`,
      shipping: `${placed.name}..shipping`,
    },
  };
}
