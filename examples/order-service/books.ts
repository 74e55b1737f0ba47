import type { Database } from "./database.ts";
import type { Customer, Order } from "./orders.ts";

/** What stands in an invoice. */
export interface Invoice {
  readonly orderId: string;
  readonly customer: string;
  readonly cents: number;
}

/** What became of an order: `placed` now, `there` from before, `other` than the one there, or `refused` for want of credit. */
export type Placing = "placed" | "there" | "other" | "refused";

/** All that stands in the tables at the end. */
export interface Contents {
  readonly orders: readonly Order[];
  readonly invoices: readonly Invoice[];
  /** What is left of the credit of all customers. */
  readonly creditLeft: number;
}

class Refused extends Error {}

/** The tables of the service: customers, orders, and the invoices of billing. */
export class Books<Transaction> {
  readonly #database: Database<Transaction>;
  readonly #customers: string;
  readonly #orders: string;
  readonly #invoices: string;

  constructor(database: Database<Transaction>, run: string) {
    this.#database = database;
    this.#customers = `customers_${run}`;
    this.#orders = `orders_${run}`;
    this.#invoices = `invoices_${run}`;
  }

  /** Makes all tables, those of the outbox and the inbox too, and lets the customers in. */
  async make(customers: readonly Customer[]): Promise<void> {
    await this.#database.outbox.migrate();
    await this.#database.inbox.migrate();
    await this.#database.transaction(async (transaction) => {
      const ask = this.#asking(transaction);
      await ask(`CREATE TABLE ${this.#customers} (name text PRIMARY KEY, credit integer NOT NULL)`);
      await ask(`CREATE TABLE ${this.#orders} (id text PRIMARY KEY, customer text NOT NULL, cents integer NOT NULL)`);
      // Nothing here keeps an order from having two invoices: that is left to the inbox.
      await ask(
        `CREATE TABLE ${this.#invoices} (order_id text NOT NULL, customer text NOT NULL, cents integer NOT NULL)`,
      );
      for (const { name, credit } of customers) {
        await ask(`INSERT INTO ${this.#customers} (name, credit) VALUES ($1, $2)`, [name, credit]);
      }
    });
  }

  /**
   * Places an order, unless it is there: in one transaction the order, the event that `announce` writes, and the customer's
   * credit. Where the credit is too small all of it is rolled back, the event too.
   */
  async place(
    { id, customer, cents }: Order,
    announce: (transaction: Transaction) => Promise<unknown>,
  ): Promise<Placing> {
    try {
      return await this.#database.transaction(async (transaction) => {
        const ask = this.#asking(transaction);
        const made = await ask(
          `INSERT INTO ${this.#orders} (id, customer, cents) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING RETURNING id`,
          [id, customer, cents],
        );
        if (made.length === 0) {
          const same = await ask(`SELECT id FROM ${this.#orders} WHERE id = $1 AND customer = $2 AND cents = $3`, [
            id,
            customer,
            cents,
          ]);
          return same.length === 1 ? "there" : "other";
        }
        await announce(transaction);
        const paid = await ask(
          `UPDATE ${this.#customers} SET credit = credit - $2 WHERE name = $1 AND credit >= $2 RETURNING name`,
          [customer, cents],
        );
        if (paid.length === 0) throw new Refused();
        return "placed";
      });
    } catch (error) {
      if (error instanceof Refused) return "refused";
      throw error;
    }
  }

  /** Writes an invoice, within the transaction of the inbox. */
  async invoice(transaction: Transaction, { orderId, customer, cents }: Invoice): Promise<void> {
    await this.#asking(transaction)(`INSERT INTO ${this.#invoices} (order_id, customer, cents) VALUES ($1, $2, $3)`, [
      orderId,
      customer,
      cents,
    ]);
  }

  /** How many orders have an invoice. */
  async countInvoiced(): Promise<number> {
    const [row] = await this.#read(`SELECT count(DISTINCT order_id) AS invoiced FROM ${this.#invoices}`);
    return Number((row as { readonly invoiced: unknown }).invoiced);
  }

  async contents(): Promise<Contents> {
    const orders = await this.#read(`SELECT id, customer, cents FROM ${this.#orders}`);
    const invoices = await this.#read(`SELECT order_id AS "orderId", customer, cents FROM ${this.#invoices}`);
    const [left] = await this.#read(`SELECT sum(credit) AS credit FROM ${this.#customers}`);
    return {
      orders: orders as readonly Order[],
      invoices: invoices as readonly Invoice[],
      creditLeft: Number((left as { readonly credit: unknown }).credit),
    };
  }

  #read(statement: string): Promise<readonly unknown[]> {
    return this.#database.transaction((transaction) => this.#database.ask(transaction, statement));
  }

  #asking(transaction: Transaction) {
    return (statement: string, values: readonly (string | number)[] = []): Promise<readonly unknown[]> =>
      this.#database.ask(transaction, statement, values);
  }
}
