/** Runs an action while `Date` is wrong by `offMs`. Timers and durations stay right. */
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
