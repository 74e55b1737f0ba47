import { expect, test } from "vitest";
import { World } from "./world.ts";

test("three members share a topic, and give it back as they leave", async () => {
  const world = new World("three", { orders: 8 });
  const first = world.join();
  expect(await world.until(() => world.isBalanced())).toBe(true);
  world.join();
  world.join();
  expect(await world.until(() => world.running.length === 3 && world.isBalanced())).toBe(true);
  void first.close();
  expect(await world.until(() => world.running.length === 2 && world.isBalanced())).toBe(true);
  console.log(world.log.join("\n"));
  expect(world.violations).toEqual([]);
});
