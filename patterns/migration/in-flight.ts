import type { Side } from "./state.ts";

/** A send that is under way. */
interface Flying {
  readonly side: Side;
  readonly bucket: number;
}

/** What is under way to which side, so that a change can wait for what goes by the state before it. */
export class InFlight {
  readonly #flying = new Set<Flying>();
  #waiting: { readonly leaving: (bucket: number, side: Side) => boolean; readonly done: () => void }[] = [];

  /** Keeps a send until it is answered. */
  track<Result>(side: Side, bucket: number, sent: Promise<Result>): Promise<Result> {
    const flying = { side, bucket };
    this.#flying.add(flying);
    const landed = (): void => {
      this.#flying.delete(flying);
      this.#check();
    };
    sent.then(landed, landed);
    return sent;
  }

  /** Resolves when nothing is under way that `leaving` says yes to. */
  async landed(leaving: (bucket: number, side: Side) => boolean): Promise<void> {
    await new Promise<void>((done) => {
      this.#waiting.push({ leaving, done });
      this.#check();
    });
  }

  #check(): void {
    if (this.#waiting.length === 0) return;
    this.#waiting = this.#waiting.filter(({ leaving, done }) => {
      for (const { bucket, side } of this.#flying) if (leaving(bucket, side)) return true;
      done();
      return false;
    });
  }
}
