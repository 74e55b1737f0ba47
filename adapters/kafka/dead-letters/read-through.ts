import { MessagingError } from "../../../core/errors.ts";
import type { LogRecord } from "../records/contract.ts";
import { notThere } from "./body-reader.ts";
import type { Log } from "./contract.ts";

const WAIT_MS = 500;
const MOST_IDLE = 20;

/**
 * Reads a log once, from its beginning to an offset, or else to where its end is when it gets there. Batches that are
 * damaged are passed over; rejects for what another reader may be able to read.
 */
export async function readThrough(log: Log, visit: (record: LogRecord) => void, to?: number): Promise<void> {
  let position = await log.first();
  for (let idle = 0; ; ) {
    const piece = await log.read(position, idle === 0 ? 0 : WAIT_MS);
    if (piece === "out-of-range") {
      throw new MessagingError("conflict", `"${log.topic}" was made anew or cut while it was read; try again`);
    }
    for (const record of piece.records) visit(record);
    const before = position;
    position = piece.unreadable === undefined ? piece.nextOffset : resumeAt(piece.unreadable);
    if (position >= (to ?? piece.end)) return;
    // Nothing comes, too, to one who asks for more than its quota allows.
    idle = position > before ? 0 : idle + 1;
    if (idle > MOST_IDLE) throw notThere(log, position);
  }
}

function resumeAt({ resumeAt: position, error }: { resumeAt: number | undefined; error: MessagingError }): number {
  if (position === undefined) throw error;
  return position;
}
