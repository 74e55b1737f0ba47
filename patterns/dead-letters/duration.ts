const UNITS = { w: 604_800_000, d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 } as const;

/** Milliseconds of a text such as `90s`, `1h` or `500ms`; undefined if it is none. */
export function parseDuration(text: string): number | undefined {
  const [, digits = "", unit = ""] = /^(\d+)(ms|[smhdw])$/.exec(text.toLowerCase()) ?? [];
  const milliseconds = Number(digits) * (UNITS[unit as keyof typeof UNITS] ?? Number.NaN);
  return digits !== "" && Number.isSafeInteger(milliseconds) ? milliseconds : undefined;
}

/** The shortest text for so many milliseconds. */
export function formatDuration(milliseconds: number): string {
  for (const [unit, size] of Object.entries(UNITS)) {
    if (milliseconds > 0 && milliseconds % size === 0) return `${milliseconds / size}${unit}`;
  }
  return `${milliseconds}ms`;
}
