import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { expect, test } from "vitest";
import { loadInternals, SUPPORTED_VERSIONS } from "../../../adapters/kafka/kafkajs/internals.ts";

const require = createRequire(import.meta.url);
const CONNECTION = "kafkajs/src/network/connection.js";

/** Loads kafkajs as if it were version 2.3.0, with other modules in the place of some. */
function changed(replaced: Readonly<Record<string, unknown>>): (path: string) => unknown {
  return (path) => {
    if (path in replaced) return replaced[path];
    return path === "kafkajs/package.json" ? { version: "2.3.0" } : require(path);
  };
}

test("the installed kafkajs has what is used of its inside", () => {
  expect(loadInternals(require).errorCodes.length).toBeGreaterThan(80);
});

test("the supported versions are the peer range, and development uses one of them", () => {
  const { peerDependencies, devDependencies } = JSON.parse(readFileSync("package.json", "utf8"));
  expect(peerDependencies.kafkajs).toBe(SUPPORTED_VERSIONS);
  expect(devDependencies.kafkajs).toMatch(/^\d+\.\d+\.\d+$/);
  expect(devDependencies.kafkajs).toBe(require("kafkajs/package.json").version);
});

test("a module that is missing is refused with the versions found and expected", () => {
  const load = (path: string): unknown => {
    if (path === CONNECTION) throw new Error(`Cannot find module '${path}'`);
    return changed({})(path);
  };
  expect(() => loadInternals(load)).toThrow(
    expect.objectContaining({
      code: "unsupported",
      message: "kafkajs 2.3.0 is not supported: src/network/connection.js cannot be used; install kafkajs@~2.2.4",
    }),
  );
});

const Connection = require(CONNECTION);
class WithoutSend extends Connection {
  send = undefined;
}

test.each([
  [
    "network/connection.js",
    "fulfillRequest",
    {
      [CONNECTION]: class extends Connection {
        requestQueue = { scheduleCheckPendingRequests: () => undefined };
      },
    },
  ],
  ["network/connection.js", "send", { [CONNECTION]: WithoutSend }],
  ["protocol/encoder.js", "writeInt8", { "kafkajs/src/protocol/encoder.js": class {} }],
  ["protocol/error.js", "error codes", { "kafkajs/src/protocol/error.js": { errorCodes: [] } }],
  ["network/socketFactory.js", "socket factory", { "kafkajs/src/network/socketFactory.js": () => undefined }],
])("%s without %s is refused", (path, missing, replaced) => {
  expect(() => loadInternals(changed(replaced))).toThrow(
    `kafkajs 2.3.0 is not supported: src/${path} has no ${missing}; install kafkajs@~2.2.4`,
  );
});
