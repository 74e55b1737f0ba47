import { delegate } from "../../conformance/decorators/delegate.ts";
import type { Adapter, SettleResult } from "../../core/adapter.ts";
import { MessagingError } from "../../core/errors.ts";

/** An adapter whose broker takes no acknowledgement, and says so, until its receiver is closed; as SQS without the right. */
export function refusesAcks(inner: Adapter): Adapter {
  return delegate(inner, {
    async receive(from, options, sink) {
      const receiver = await inner.receive(from, options, sink);
      const closed = Promise.withResolvers<void>();
      return {
        leaseMs: receiver.leaseMs,
        prefetch: (count) => receiver.prefetch(count),
        extend: (batch) => receiver.extend(batch),
        async settle(batch) {
          if (batch.every(({ action }) => action === "requeue")) return receiver.settle(batch);
          sink.stalled(new MessagingError("unauthorized", "no right to delete, as ordered"));
          await closed.promise;
          return batch.map((): SettleResult => "fenced");
        },
        async close() {
          closed.resolve();
          await receiver.close();
        },
      };
    },
  });
}
