import { type Adapter, createBroker, subscription } from "anybroker";
import { ContainerModule } from "inversify";
import { AUDIT, AuditBook, audit } from "./audit.ts";
import { startDispatch } from "./dispatch.ts";
import type { Rides } from "./rides.ts";

/**
 * Reads the events again from `since` on, into a book of its own, by the same module as the live audit. Its consumers must
 * have stopped. Rejects with `unsupported` on a broker that keeps nothing. `complete` waits until the book is.
 */
export async function recomputeAudit(
  adapter: Adapter,
  rides: Rides,
  since: Date,
  complete: (book: AuditBook) => Promise<void>,
): Promise<AuditBook> {
  const broker = createBroker(adapter, { declare: "verify", destinations: [subscription(rides.matched, AUDIT)] });
  await broker.start();
  try {
    await broker.rewind(rides.matched, AUDIT, since);
  } finally {
    await broker.stop();
  }
  const book = new AuditBook();
  const office = new ContainerModule(({ bind }) => void bind(AuditBook).toConstantValue(book));
  const container = await startDispatch({ audit: adapter }, office, audit(rides));
  try {
    await complete(book);
  } finally {
    await container.unbindAllAsync();
  }
  return book;
}
