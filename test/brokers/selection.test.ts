import { expect, test, vi } from "vitest";
import { BrokerUnavailable } from "./contract.ts";
import { brokerMode, selectBroker } from "./selection.ts";

function sources() {
  return {
    name: "teapot",
    urlVariable: "TEAPOT_URL",
    url: vi.fn(async (url: string) => `url ${url}`),
    docker: vi.fn(async () => "docker"),
    native: vi.fn(async () => "native"),
  };
}

const failing = (reason: string) => vi.fn(() => Promise.reject(new Error(reason)));

test("a URL wins, and nothing else is tried when it fails", async () => {
  const good = sources();
  expect(await selectBroker(good, { TEAPOT_URL: "tea://pot", BROKERS: "native" })).toBe("url tea://pot");
  const bad = { ...sources(), url: failing("refused") };
  await expect(selectBroker(bad, { TEAPOT_URL: "tea://pot" })).rejects.toThrow(/TEAPOT_URL: refused/);
  for (const each of [good, bad]) expect([each.docker, each.native].flatMap((way) => way.mock.calls)).toEqual([]);
});

test("auto tries Docker, then native", async () => {
  expect(await selectBroker(sources(), {})).toBe("docker");
  expect(await selectBroker({ ...sources(), docker: failing("no engine") }, { BROKERS: "auto" })).toBe("native");
});

test("docker and native try nothing else", async () => {
  const noDocker = { ...sources(), docker: failing("no engine") };
  await expect(selectBroker(noDocker, { BROKERS: "docker" })).rejects.toBeInstanceOf(BrokerUnavailable);
  expect(noDocker.native).not.toHaveBeenCalled();
  const native = sources();
  expect(await selectBroker(native, { BROKERS: "native" })).toBe("native");
  expect(native.docker).not.toHaveBeenCalled();
});

test("what cannot be had gives every reason", async () => {
  const none = { ...sources(), docker: failing("no engine"), native: failing("no packages") };
  await expect(selectBroker(none, {})).rejects.toThrow(
    "teapot is not available. Docker: no engine | native: no packages",
  );
});

test("an unknown mode is refused", () => {
  expect(() => brokerMode("podman")).toThrow(/use auto, docker or native/);
});
