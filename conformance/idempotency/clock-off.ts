/** Runs an action while this process's time of day is wrong by so many milliseconds. Timers and durations are not touched. */
export async function withClockOff<T>(offMs: number, action: () => Promise<T>): Promise<T> {
  const Right = globalThis.Date;
  const wrongNow = (): number => Right.now() + offMs;
  globalThis.Date = new Proxy(Right, {
    construct: (target, given, wanted) => Reflect.construct(target, given.length === 0 ? [wrongNow()] : given, wanted),
    apply: () => new Right(wrongNow()).toString(),
    get: (target, name) => (name === "now" ? wrongNow : Reflect.get(target, name)),
  });
  try {
    return await action();
  } finally {
    globalThis.Date = Right;
  }
}
