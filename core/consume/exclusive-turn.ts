/**
 * Sees to it that of what runs alone in its consumer only one runs at a time over all consumers of a broker: processes die
 * whole, and what crashes one of them waits in step with what ran beside it in another.
 */
export class ExclusiveTurn {
  readonly #changed = new Map<object, () => void>();
  #holder: object | undefined;

  /** `changed` is called when another has taken it, or left it, until `quit`. */
  join(who: object, changed: () => void): void {
    this.#changed.set(who, changed);
  }

  quit(who: object): void {
    this.#changed.delete(who);
    this.leave(who);
  }

  isFree(who: object): boolean {
    return this.#holder === undefined || this.#holder === who;
  }

  take(who: object): void {
    if (this.#holder === who) return;
    this.#holder = who;
    this.#tell(who);
  }

  /** One that does not have it is no error. */
  leave(who: object): void {
    if (this.#holder !== who) return;
    this.#holder = undefined;
    this.#tell(who);
  }

  #tell(who: object): void {
    for (const [other, changed] of [...this.#changed]) if (other !== who) changed();
  }
}
