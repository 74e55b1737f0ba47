import { expect, test } from "vitest";
import { Crew, type Worker } from "../../examples/shared/crew.ts";

/** A worker that is gone when it is killed or told to stop. */
function worker(name: string, deeds: string[]): Worker {
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const end = (deed: string) => async (): Promise<string> => {
    deeds.push(`${name} ${deed}`);
    resolve();
    return "gone";
  };
  const stop = end("stopped");
  return { name, ended, kill: end("killed"), stop: async () => void (await stop()) };
}

test("a worker that is still being hired when the crew stops is told to stop as well", async () => {
  const deeds: string[] = [];
  const asked = Promise.withResolvers<void>();
  const place = Promise.withResolvers<Worker>();
  const hires = [
    async () => worker("first", deeds),
    () => {
      asked.resolve();
      return place.promise;
    },
  ];
  const crew = new Crew<"work">(
    () => hires.shift()?.() ?? Promise.reject(new Error("nobody is left")),
    () => undefined,
  );
  await crew.start("work", 1);
  expect(await crew.killOne("work")).toBe("first");
  await asked.promise;
  const stopped = crew.stop();
  place.resolve(worker("second", deeds));
  await stopped;
  expect(deeds).toEqual(["first killed", "second stopped"]);
});
