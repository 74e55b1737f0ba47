import type { Broker } from "anybroker";
import { Container } from "inversify";
import { afterEach, beforeEach, expect, vi } from "vitest";
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
  const doneIs = (...expected: readonly string[]) => vi.waitFor(() => expect(world.done).toEqual(expected), 10_000);
  const world: World = { ...fresh(), doneIs };
  beforeEach(() => void Object.assign(world, fresh()));
  afterEach(() => world.container.unbindAllAsync());
  return world;
}
