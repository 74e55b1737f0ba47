import type { IncomingMessage } from "../../core/adapter.ts";
import type { DeadLettersAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { routingMatches } from "../../core/routing.ts";
import { HEADER } from "../../core/system-headers.ts";
import { readReference, referredRecords } from "./dead-letters/index.ts";
import { incomingRecord, type KafkaRecord, routingKeyOf } from "./message.ts";
import { topicsOf } from "./names.ts";
import type { Openings } from "./openings.ts";

/** The messages that a dead letter refers to: one, or those of a batch that could not be read. */
export async function resolveReference(
  openings: Openings,
  { of }: DeadLettersAddress,
  letter: IncomingMessage,
): Promise<readonly IncomingMessage<KafkaRecord>[]> {
  const isReference = letter.headers[HEADER.deadReference] !== undefined;
  const reference = isReference ? readReference(letter.body) : undefined;
  // Others may write dead letters too: they cannot have records of other topics read.
  if (reference === undefined || !topicsOf(of).includes(reference.topic)) {
    throw new MessagingError("invalid", `dead letter ${letter.id} refers to nothing that belongs to it`);
  }
  const records = await referredRecords(openings.log(reference), reference);
  const { filter } = reference;
  return records
    .filter((record) => filter === undefined || routingMatches(filter, routingKeyOf(record)))
    .map((record) => incomingRecord(reference, record, undefined, 0));
}
