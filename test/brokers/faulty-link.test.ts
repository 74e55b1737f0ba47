import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type FaultyLink, faultyLink } from "./faulty-link.ts";

let echo: Server;
let link: FaultyLink;
let received: string;

beforeEach(async () => {
  received = "";
  echo = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      received += chunk.toString();
      socket.write(chunk);
    });
  }).listen(0, "127.0.0.1");
  await once(echo, "listening");
  link = await faultyLink((echo.address() as AddressInfo).port);
});

afterEach(async () => {
  await link.close();
  await new Promise((resolve) => echo.close(resolve));
});

function client(): { socket: Socket; heard: () => string; ended: Promise<string> } {
  const socket = connect(link.port, link.host);
  let heard = "";
  const ended = new Promise<string>((resolve) => {
    socket.once("error", (error) => resolve("code" in error ? String(error.code) : error.message));
    socket.once("end", () => resolve("end"));
  });
  socket.on("data", (chunk) => {
    heard += chunk.toString();
  });
  return { socket, heard: () => heard, ended };
}

test("a good link carries bytes both ways", async () => {
  const { socket, heard } = client();
  socket.write("one");
  await expect.poll(heard).toBe("one");
  expect(link.connections).toBe(1);
  socket.end();
  await expect.poll(() => link.connections).toBe(0);
});

test("cut resets what is open and takes new connections", async () => {
  const first = client();
  first.socket.write("one");
  await expect.poll(first.heard).toBe("one");
  link.cut();
  expect(await first.ended).toBe("ECONNRESET");
  const second = client();
  second.socket.write("two");
  await expect.poll(second.heard).toBe("two");
});

test("refuse resets new connections until restore", async () => {
  link.refuse();
  expect(await client().ended).toBe("ECONNRESET");
  link.restore();
  const { socket, heard } = client();
  socket.write("again");
  await expect.poll(heard).toBe("again");
});

test("silence holds bytes back without a word, and restore lets them arrive in order", async () => {
  const quiet = client();
  quiet.socket.write("a");
  await expect.poll(quiet.heard).toBe("a");
  link.silence();
  quiet.socket.write("b");
  quiet.socket.write("c");
  // A round trip past the link proves that the bytes had the time to arrive, had they been let through.
  const direct = connect((echo.address() as AddressInfo).port, "127.0.0.1").end("direct");
  await expect.poll(() => received).toContain("direct");
  await once(direct.resume(), "close");
  expect(received).toBe("adirect");
  expect(link.connections).toBe(1);
  link.restore();
  await expect.poll(quiet.heard).toBe("abc");
});

test("slow delays bytes and keeps their order", async () => {
  link.slow(20);
  const { socket, heard } = client();
  for (const letter of "abcdef") socket.write(letter);
  await expect.poll(heard).toBe("abcdef");
});

test("the URL through the link keeps all but host and port", () => {
  expect(link.through("amqp://user:pw@broker.example:5672/place?heartbeat=5")).toBe(
    `amqp://user:pw@127.0.0.1:${link.port}/place?heartbeat=5`,
  );
});

test("close twice is close once", async () => {
  await link.close();
  await link.close();
});
