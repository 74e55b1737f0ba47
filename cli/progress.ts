import { SingleBar } from "cli-progress";
import type { Output } from "./context.ts";
import { printable } from "./printable.ts";
import type { Terminal } from "./terminal.ts";

/** Shows how far something is. */
export interface ProgressBar {
  update(done: number, detail?: string): void;
  /** Leaves what was drawn. A second call does nothing. */
  stop(): void;
}

const CLEAR_LINE = "\r\u001b[K";
const SAVE_CURSOR = "\u001b7";
const RESTORE_CURSOR = "\u001b8";
/** What a terminal echoes at Ctrl-C, with a place for the cursor. */
const ECHO_COLUMNS = 3;
const DEFAULT_COLUMNS = 80;
const SILENT: ProgressBar = { update: () => {}, stop: () => {} };

/** A progress bar on stderr if that is a terminal, else nothing. `total` is undefined where it is not known. */
export function progressBar(terminal: Terminal, title: string, total: number | undefined): ProgressBar {
  const stream = terminal.progressStream;
  if (stream === undefined) return SILENT;
  const known = total !== undefined;
  const format = known ? `${title} [{bar}] {value}/{total} {detail}` : `${title} {value} {detail}`;
  const bar = new SingleBar({
    stream: lineOf(stream),
    format,
    forceRedraw: true,
    linewrap: true,
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

/**
 * The stream as the bar sees it. The cursor is never sent back to a saved place: a note moves the bar to the next line, and
 * may scroll the screen. The bar is cut where the echo of Ctrl-C still fits on its line.
 */
function lineOf(stream: Output): NodeJS.WritableStream {
  const write = (text: string, ...rest: []): boolean =>
    text === SAVE_CURSOR || text === RESTORE_CURSOR || stream.write(text, ...rest);
  return Object.create(stream, {
    write: { value: write },
    columns: { get: () => Math.max((stream.columns ?? DEFAULT_COLUMNS) - ECHO_COLUMNS, 1) },
  });
}
