import { styleText } from "node:util";
import { printable } from "./printable.ts";

type Paints = (text: string) => string;

/** Colours, where there are any. Each makes the text printable first, so that nobody's text brings colours of its own. */
export interface Paint {
  readonly bold: Paints;
  readonly dim: Paints;
  readonly red: Paints;
  readonly green: Paints;
  readonly yellow: Paints;
  /** How many characters fit on a line; undefined where there is no end to it. */
  readonly width: number | undefined;
}

/** What decides about colours. */
export interface PaintedStream {
  readonly isTTY?: boolean;
}

/** Whether a stream gets colours: a terminal does, unless it or NO_COLOR (https://no-color.org) says no. */
export function hasColours({ isTTY }: PaintedStream, env: Readonly<Record<string, string | undefined>>): boolean {
  return isTTY === true && (env.NO_COLOR ?? "") === "" && env.TERM !== "dumb";
}

/** The paint for a stream, and how wide that is. */
export function paintOf(colours: boolean, width?: number): Paint {
  const paint = (style: "bold" | "dim" | "red" | "green" | "yellow"): Paints => {
    if (!colours) return printable;
    return (text) => styleText(style, printable(text), { validateStream: false });
  };
  return {
    bold: paint("bold"),
    dim: paint("dim"),
    red: paint("red"),
    green: paint("green"),
    yellow: paint("yellow"),
    width,
  };
}
