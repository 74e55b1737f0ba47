/**
 * Lets one consumer of a broker at a time run a suspect message alone. A process crashes as a whole, so messages that
 * run side by side in two consumers would share the blame.
 */
export class ExclusiveTurn {
  readonly #members = new Map<object, () => void>();
  #holder: object | undefined;

  /** `changed` is called when another member takes or leaves the turn, until `quit`. */
  join(member: object, changed: () => void): void {
    this.#members.set(member, changed);
  }

  quit(member: object): void {
    this.#members.delete(member);
    this.leave(member);
  }

  isFree(member: object): boolean {
    return this.#holder === undefined || this.#holder === member;
  }

  take(member: object): void {
    if (this.#holder === member) return;
    this.#holder = member;
    this.#notify(member);
  }

  /** Does nothing for a member without the turn. */
  leave(member: object): void {
    if (this.#holder !== member) return;
    this.#holder = undefined;
    this.#notify(member);
  }

  #notify(member: object): void {
    for (const [other, changed] of [...this.#members]) if (other !== member) changed();
  }
}
