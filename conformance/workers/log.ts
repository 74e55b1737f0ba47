import { closeSync, openSync, readSync, writeSync } from "node:fs";
import type { WorkerReport } from "./orders.ts";

/** Appends to a log, synchronously: a process that is killed right after an effect has reported it. */
export function logWriter(file: string): (report: WorkerReport) => void {
  const descriptor = openSync(file, "a");
  return (report) => void writeSync(descriptor, `${JSON.stringify(report)}\n`);
}

const CHUNK_BYTES = 65_536;

/** Reads a log as it grows. */
export class LogReader {
  readonly #descriptor: number;
  readonly #chunk = Buffer.alloc(CHUNK_BYTES);
  #rest = Buffer.alloc(0);

  constructor(file: string) {
    this.#descriptor = openSync(file, "a+");
  }

  /** The reports written since the last call. */
  read(): WorkerReport[] {
    const reports: WorkerReport[] = [];
    for (;;) {
      const length = readSync(this.#descriptor, this.#chunk);
      if (length === 0) return reports;
      this.#rest = Buffer.concat([this.#rest, this.#chunk.subarray(0, length)]);
      let end = this.#rest.indexOf("\n");
      while (end >= 0) {
        reports.push(JSON.parse(this.#rest.subarray(0, end).toString()) as WorkerReport);
        this.#rest = this.#rest.subarray(end + 1);
        end = this.#rest.indexOf("\n");
      }
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}
