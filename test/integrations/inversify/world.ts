import type { Broker } from "anybroker";
import { Container } from "inversify";
import { afterEach, beforeEach, expect } from "vitest";
import { eventually } from "../../eventually.ts";
import { inProcess } from "./orders.ts";

/** What a test of handlers has for itself. */
export interface World {
  container: Container;
  broker: Broker;
  /** What handlers say that they did. */
  done: string[];
  /** Waits until they did this, and nothing else. */
  doneIs(...expected: readonly string[]): Promise<void>;
}

/** A world that is new for each test, and ended after it. */
export function useContainer(): World {
  const fresh = () => ({ container: new Container(), broker: inProcess(), done: [] });
  const doneIs = (...expected: readonly string[]) => eventually(() => expect(world.done).toEqual(expected));
  const world: World = { ...fresh(), doneIs };
  beforeEach(() => void Object.assign(world, fresh()));
  afterEach(() => world.container.unbindAllAsync());
  return world;
}
