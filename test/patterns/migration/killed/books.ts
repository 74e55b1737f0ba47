import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { openDatabase } from "../../idempotency/sqlite-database.ts";
import type { Numbered } from "../catalog.ts";

/** A message that a process began to send. */
export interface Sale {
  readonly seq: number;
  readonly destination: string;
  readonly id: string;
  readonly customer: string;
  readonly n: number;
  /** The last process that tried. */
  readonly worker: string;
  /** 1 if a send of it was confirmed. */
  readonly accepted: number;
}

/** One run of a handler. */
export interface Effect {
  readonly source: string;
  readonly id: string;
  readonly customer: string;
  readonly n: number;
  readonly worker: string;
  /** 1 if it was noted as handled, so that no other run may follow. */
  readonly completed: number;
}

const LOCK_MS = 5_000;

/** What all processes of a service sent and did. What is written here outlives the process that wrote it. */
export class Books {
  readonly #database: DatabaseSync;

  constructor(folder: string) {
    this.#database = openDatabase(join(folder, "books.sqlite"), LOCK_MS);
    this.#database.exec(`
      CREATE TABLE IF NOT EXISTS sales (
        seq INTEGER PRIMARY KEY, destination TEXT, id TEXT, customer TEXT, n INTEGER, worker TEXT,
        accepted INTEGER DEFAULT 0, UNIQUE (destination, id)) STRICT;
      CREATE TABLE IF NOT EXISTS effects (
        seq INTEGER PRIMARY KEY, source TEXT, id TEXT, customer TEXT, n INTEGER, worker TEXT,
        completed INTEGER DEFAULT 0) STRICT;
      CREATE TABLE IF NOT EXISTS closed (at INTEGER) STRICT;
    `);
  }

  /** Notes that a process is about to send; returns what is known of it from others. */
  begin(destination: string, id: string, { customer, n }: Numbered, worker: string): "new" | "open" | "accepted" {
    const known = this.#database
      .prepare("SELECT accepted FROM sales WHERE destination = ? AND id = ?")
      .get(destination, id) as { readonly accepted: number } | undefined;
    if (known?.accepted === 1) return "accepted";
    this.#database
      .prepare("INSERT OR IGNORE INTO sales (destination, id, customer, n, worker) VALUES (?, ?, ?, ?, ?)")
      .run(destination, id, customer, n, worker);
    return known === undefined ? "new" : "open";
  }

  accept(destination: string, id: string, worker: string): void {
    this.#database
      .prepare("UPDATE sales SET accepted = 1, worker = ? WHERE destination = ? AND id = ?")
      .run(worker, destination, id);
  }

  /** The last message of a customer that anybody began to send. */
  lastOf(customer: string): number {
    const row = this.#database.prepare("SELECT max(n) AS n FROM sales WHERE customer = ?").get(customer);
    return (row as { readonly n: number | null }).n ?? 0;
  }

  effect(source: string, id: string, { customer, n }: Numbered, worker: string): void {
    this.#database
      .prepare("INSERT INTO effects (source, id, customer, n, worker) VALUES (?, ?, ?, ?, ?)")
      .run(source, id, customer, n, worker);
  }

  complete(source: string, id: string, worker: string): void {
    this.#database
      .prepare("UPDATE effects SET completed = 1 WHERE source = ? AND id = ? AND worker = ?")
      .run(source, id, worker);
  }

  /** No more is sold. */
  closeShop(): void {
    this.#database.exec("INSERT INTO closed VALUES (1)");
  }

  get isShopOpen(): boolean {
    return this.#database.prepare("SELECT 1 FROM closed").get() === undefined;
  }

  get effectCount(): number {
    return (this.#database.prepare("SELECT count(*) AS n FROM effects").get() as { readonly n: number }).n;
  }

  /** In the order in which they were begun. */
  get sales(): readonly Sale[] {
    return this.#database.prepare("SELECT * FROM sales ORDER BY seq").all() as unknown as readonly Sale[];
  }

  /** In the order in which they happened. */
  get effects(): readonly Effect[] {
    return this.#database.prepare("SELECT * FROM effects ORDER BY seq").all() as unknown as readonly Effect[];
  }

  close(): void {
    this.#database.close();
  }
}
