const COLUMNS = 120;
// biome-ignore lint/suspicious/noControlCharactersInRegex: this is how a terminal is spoken to
const PIECE = /\u001b\[(\??[\d;]*)([A-Za-z])|\u001b([78])|[^\u001b]/gu;

/** The lines that a terminal shows in the end, for what was written to it: as far as the command moves the cursor. */
export function screenOf(written: string, columns = COLUMNS): readonly string[] {
  const lines: string[][] = [];
  let [row, column] = [0, 0];
  let saved = { row, column };
  const lineAt = (at: number): string[] => {
    while (lines.length <= at) lines.push([]);
    return lines[at] ?? [];
  };
  for (const [piece, parameter = "", letter, place] of written.matchAll(PIECE)) {
    if (place === "7") saved = { row, column };
    else if (place === "8") ({ row, column } = saved);
    else if (letter === "G") column = Number(parameter || 1) - 1;
    else if (letter === "K") lineAt(row).splice(parameter === "2" ? 0 : column);
    else if (letter !== undefined) continue;
    else if (piece === "\r") column = 0;
    else if (piece === "\n") [row, column] = [row + 1, 0];
    else {
      if (column === columns) [row, column] = [row + 1, 0];
      const line = lineAt(row);
      while (line.length < column) line.push(" ");
      line[column++] = piece;
    }
  }
  return lines.map((line) => line.join("").trimEnd());
}
