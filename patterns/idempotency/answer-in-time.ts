/** What {@link answerInTime} rejects with when there was no answer. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";
}

/**
 * Settles as the question does; rejects with {@link NoAnswer} if that takes longer than so many milliseconds. An answer
 * that comes after that goes to `late`, a failure nowhere.
 */
export async function answerInTime<T>(
  ask: () => Promise<T>,
  timeoutMs: number,
  late: (answer: T) => void = () => undefined,
): Promise<T> {
  const { promise: gaveUp, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new NoAnswer(`no answer within ${timeoutMs} ms`)), timeoutMs);
  // Also where it throws before there is a promise.
  const asked = (async () => ask())();
  try {
    return await Promise.race([asked, gaveUp]);
  } catch (error) {
    if (error instanceof NoAnswer) asked.then(late).catch(() => undefined);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
