import { SingleBar } from "cli-progress";
import { printable } from "./printable.ts";
import type { Terminal } from "./terminal.ts";

/** Shows how far something is. */
export interface ProgressBar {
  update(done: number, detail?: string): void;
  /** Leaves what was drawn. A second call does nothing. */
  stop(): void;
}

const CLEAR_LINE = "\r\u001b[K";
const SILENT: ProgressBar = { update: () => {}, stop: () => {} };

/** A progress bar on stderr if that is a terminal, else nothing. `total` is undefined where it is not known. */
export function progressBar(terminal: Terminal, title: string, total: number | undefined): ProgressBar {
  const stream = terminal.progressStream;
  if (stream === undefined) return SILENT;
  const known = total !== undefined;
  const format = known ? `${title} [{bar}] {value}/{total} {detail}` : `${title} {value} {detail}`;
  const bar = new SingleBar({
    stream,
    format,
    forceRedraw: true,
    hideCursor: true,
    barsize: 30,
    gracefulExit: false,
    fps: 10,
  });
  bar.start(total ?? 1, 0, { detail: "" });
  const stop = (): void => {
    if (bar.isActive) bar.stop();
    terminal.drawing = undefined;
  };
  terminal.drawing = { erase: CLEAR_LINE, stop };
  return { update: (done, detail = "") => bar.update(done, { detail: printable(detail) }), stop };
}
