import { createBroker, deadLetter, MessagingError, queue } from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import { describe, expect, test } from "vitest";
import type { Configuration } from "../../cli/configuration.ts";
import { maskUrl, redacted, redactedJson, Secrets } from "../../cli/secrets.ts";
import { netted, preview, printable, printableLines } from "../../cli/terminal.ts";
import { command, documented } from "./commands.ts";

/** Red, a cleared screen, a window title, a carriage return, a C1 control, a mark of direction, a tag, a bell. */
const HOSTILE = "\u001b[31m\u001b[2J\u001b]0;owned\u0007\r\u009b1m\u202eevil\u{e0001}\u2028";
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
const OBEYED = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2028\u2029\u{e0000}-\u{e007f}]/u;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the colours that commands write
const OURS = /\u001b\[(1|2|22|31|32|33|39)m|\u001b\[\?25[hl]|\u001b\[0?G|\u001b\[0K|\u001b\[\d*[AGK]/g;

describe("text", () => {
  test("is shown with what a terminal obeys as escapes", () => {
    expect(printable(HOSTILE)).toBe("\\x1b[31m\\x1b[2J\\x1b]0;owned\\x07\\r\\x9b1m\\u202eevil\\u{e0001}\\u2028");
    expect(printable("plain, ümlaut, 漢字 🙂")).toBe("plain, ümlaut, 漢字 🙂");
    expect(printableLines("a\nb\tc")).toBe("a\nb\\tc");
    expect(printable("\ud800")).toBe("\ufffd");
    expect(preview("\u001b".repeat(100), 10)).toHaveLength(10);
  });

  test("is netted once more on its way out", () => {
    expect(netted("\u001b[31mred\u001b[39m\u001b[2J", true)).toBe("\u001b[31mred\u001b[39m\\x1b[2J");
    expect(netted("\u001b[31mred", false)).toBe("\\x1b[31mred");
  });
});

/** A queue with one dead letter that is hostile wherever a sender can write something. */
async function hostile(): Promise<Configuration> {
  const space = memorySpace();
  const evil = queue<string>("evil");
  const broker = createBroker(memory({ space }), { destinations: [evil] });
  const consumer = broker.consume(evil, (body) => deadLetter(`refused: ${body}`), { retry: { attempts: 1 } });
  await broker.start();
  await broker.send(evil, HOSTILE, { key: "\u202ekey", headers: { tenant: "\u009b1m\u202e" } });
  while (consumer.status().deadLettered < 1) await new Promise((resolve) => setImmediate(resolve));
  await broker.stop();
  return { broker: () => memory({ space }), destinations: [evil] };
}

test.for([false, true])("no message plays tricks with a terminal (terminal: %s)", async (terminal) => {
  const configuration = await hostile();
  const ls = await command(["dlq", "ls", "evil", "--json"], { configuration });
  const [entry] = ls.json.entries as readonly { readonly id: string; readonly key: string }[];
  expect(entry?.key).toBe("\u202ekey");
  const lines = [
    ["dlq", "ls", "evil"],
    ["dlq", "groups", "evil"],
    ["dlq", "show", "evil", entry?.id ?? ""],
    ["dlq", "edit", "evil", entry?.id ?? "", JSON.stringify(HOSTILE), "--dry-run"],
    ["dlq", "replay", "evil", `id = "${entry?.id}"`, "--dry-run"],
    ["dlq", "show", "evil", `none${HOSTILE}`],
    ["dlq", "ls", `queue:evil${HOSTILE}`],
    ["send", "evil", "1", `--${HOSTILE}`],
    [HOSTILE],
  ];
  for (const line of lines) {
    for (const more of [[], ["--json"]]) {
      const { stdout, stderr } = await command([...line, ...more], { configuration, terminal });
      expect((stdout + stderr).replaceAll(OURS, ""), line.join(" ")).not.toMatch(OBEYED);
      expect(stdout + stderr).not.toContain("\u001b[31m\u001b[2J");
    }
  }
});

describe("colours", () => {
  const configuration: Configuration = { broker: () => memory(), destinations: [queue("orders")] };

  test("are for terminals, unless NO_COLOR says no", async () => {
    const line = ["topology", "diff"];
    const coloured = await command(line, { configuration, terminal: true });
    expect(coloured.stdout).toContain("\u001b[33mmissing\u001b[39m");
    expect((await command(line, { configuration })).stdout).not.toContain("\u001b");
    const env = { NO_COLOR: "1" };
    expect((await command(line, { configuration, terminal: true, env })).stdout).not.toContain("\u001b");
    expect((await command(line, { configuration, terminal: true, env: { TERM: "dumb" } })).stdout).not.toContain(
      "\u001b",
    );
    expect((await command([...line, "--json"], { configuration, terminal: true })).stdout).not.toContain("\u001b");
  });
});

describe("secrets", () => {
  const CANARY = "c4n4ry-s3cret/ü";
  const URL_WITH = `amqp://shop:${encodeURIComponent(CANARY)}@127.0.0.1:1/%2f`;

  test("are taken out of URLs and errors", () => {
    expect(maskUrl(URL_WITH)).toBe("amqp://***@127.0.0.1:1/%2f");
    expect(maskUrl("kafka://u:p%40ss@a:1,b:2?sasl.password=x&clientId=c")).toBe(
      "kafka://***@a:1,b:2?sasl.password=***&clientId=c",
    );
    expect(maskUrl("sqs://eu-central-1?endpoint=http://localhost:1")).toBe(
      "sqs://eu-central-1?endpoint=http://localhost:1",
    );
    const secrets = new Secrets({
      AWS_SECRET_ACCESS_KEY: "abcd-1234",
      PGPASSWORD: "x",
      BROKER_URL: URL_WITH,
      HOME: "/home",
    });
    expect(secrets.masked(`no abcd-1234, ${CANARY}, ${encodeURIComponent(CANARY)}, x, /home`)).toBe(
      "no ***, ***, ***, x, /home",
    );
  });

  test.for<readonly [string, string]>([
    ["base64", Buffer.from(CANARY).toString("base64")],
    ["base64url", Buffer.from(CANARY).toString("base64url")],
    ["hexadecimal digits", Buffer.from(CANARY).toString("hex")],
    ["SASL PLAIN", Buffer.from(`\0shop\0${CANARY}`).toString("base64")],
    ["HTTP Basic", Buffer.from(`shop:${CANARY}`).toString("base64url")],
    ["Basic of another user", Buffer.from(`other:${CANARY}`).toString("base64")],
  ])("are taken out of errors as %s", ([, quoted]) => {
    for (const env of [{ BROKER_URL: URL_WITH }, { BROKER_PASSWORD: CANARY }]) {
      const shown = new Secrets(env).masked(`said "${quoted}"`);
      expect(shown).toContain("***");
      // A character at an end may share its bits with what stands beside the secret.
      expect(shown.length).toBeLessThan(24);
    }
  });

  test.for([
    ["amqp://u:p/w@h", "amqp://***@h"],
    ["amqp://u:p@ss/w?o#rd@h:5672/vhost", "amqp://***@h:5672/vhost"],
    ["redis://:pw@h, amqp://u:p@a,amqp://u:p@b", "redis://***@h, amqp://***@b"],
    ["sqs://eu?endpoint=http://u:pw@h", "sqs://eu?endpoint=http://***@h"],
    ["sqs://TOKEN@eu", "sqs://***@eu"],
    ['no "amqp://u:pw@h" and (HTTPS://u:pw@h)', 'no "amqp://***@h" and (HTTPS://***@h)'],
    ["http://h/?password=pw&user=u&api_key=k", "http://h/?password=***&user=u&api_key=***"],
    ["http://h/@user http://h a@b.c 12:30 @", "http://h/@user http://h a@b.c 12:30 @"],
    ["", ""],
    ["://@", "://***@"],
  ] as const)("are taken out of any text: %s", ([text, shown]) => {
    expect(redacted(text)).toBe(shown);
    expect(redacted(shown)).toBe(shown);
  });

  test("are taken out of a text of any size", () => {
    for (const part of ["a://", "a://b:c/", "?a=", "a", "a:", "://@", "a://b:c@"]) {
      expect(redacted(part.repeat(100_000))).not.toContain("c@c@");
    }
  });

  test("are taken out of JSON, but not out of what a message holds", () => {
    const login = "amqp://u:pw@h";
    const told = { error: { message: login }, entries: [{ body: login, headers: { at: login }, error: login }], n: 1 };
    expect(redactedJson(told)).toEqual({
      error: { message: "amqp://***@h" },
      entries: [{ body: login, headers: { at: login }, error: "amqp://***@h" }],
      n: 1,
    });
  });

  test.for([
    [["amqp://u:S3CRET/x@h"]],
    [["amqp:u:S3CRET@h"]],
    [["doctor", "amqp://u:S3CRET@h"]],
    [["doctor", "--plan", "--from", "amqp://u:S3CRET@h", "--to", "amqp:/u:S3CRET@h"]],
    [["dlq", "ls", "queue:orders", "error ~ amqp://u:S3CRET@h"]],
    [["send", "amqp://u:S3CRET x@h", "1"]],
    [["--amqp://u:S3CRET@h"]],
    [["top", "--broker=amqp:u:S3CRET@h"]],
    [["topology", "show", "amqp://S3CRET@h"]],
    [["dlq", "replay", "amqp://h?password=S3CRET", "all"]],
    [["doctor", "--config", "amqp://u:S3CRET@h"]],
    [["publish", "topic:a", "amqp://u:S3CRET@h", "--file", "amqp://u:S3CRET@h"]],
  ])("stand in no complaint about the command line: %s", async ([line = []]) => {
    for (const more of [[], ["--json"], ["--verbose"]]) {
      const { stdout, stderr } = await command([...line, ...more], { configuration: { broker: () => memory() } });
      expect(stdout + stderr).not.toContain("S3CRET");
    }
  });

  test.for([
    ["an error", new Error("cannot connect to postgres://shop:S3CRET@db/shop")],
    ["a text", "postgres://shop:S3CRET@db/shop"],
    ["null", null],
    ["what refuses to be a text", Object.create(null)],
    ["an error that is none", Object.assign(new Error(), { message: { toString: 1 } })],
  ] as const)("stand in nothing that a configuration throws: %s", async ([, thrown]) => {
    const broker = (): never => {
      throw thrown;
    };
    for (const more of [[], ["--json"], ["--verbose"]]) {
      const { stdout, stderr, code } = await command(["top", "--once", ...more], {
        configuration: { broker, destinations: [queue("orders")] },
      });
      expect(stdout + stderr).not.toContain("S3CRET");
      expect([stderr === "", code]).toEqual([false, 78]);
    }
  });

  test("stand nowhere in what a command says, whatever an error holds", async () => {
    const leaking = (): never => {
      const cause = new Error(`connect to ${URL_WITH} with ${CANARY}`);
      throw new MessagingError("unreachable", `cannot reach ${URL_WITH}`, { cause });
    };
    const configuration: Configuration = { brokers: { leaking }, destinations: [queue("orders")] };
    const env = { BROKER_URL: URL_WITH, RABBITMQ_PASSWORD: CANARY };
    for (const broker of [["--broker", URL_WITH], ["--broker", "leaking"], []]) {
      for (const verb of [
        ["doctor"],
        ["topology", "diff"],
        ["topology", "show"],
        ["top", "--once"],
        ["dlq", "ls", "orders"],
      ]) {
        for (const more of [[], ["--json"], ["--verbose"], ["--json", "--verbose"]]) {
          const { stdout, stderr, code } = await command([...verb, ...broker, ...more], { configuration, env });
          expect(stdout + stderr).not.toContain(CANARY);
          expect(stdout + stderr).not.toContain(encodeURIComponent(CANARY));
          if (verb[1] !== "show" || broker[1] === "leaking")
            expect([verb.join(" "), code]).toEqual([verb.join(" "), 69]);
        }
      }
    }
  });

  test("--verbose shows stacks and causes, and nothing else does", async () => {
    const configuration: Configuration = {
      broker: () => memory(),
      get destinations(): never {
        throw new TypeError("a mistake", { cause: new Error("behind it") });
      },
    };
    const brief = await command(["topology", "show"], { configuration });
    expect([brief.code, brief.stdout]).toEqual([70, ""]);
    expect(brief.stderr).toBe("anybroker: a mistake\na defect of anybroker; --verbose shows where\n");
    const verbose = await command(["topology", "show", "--verbose"], { configuration });
    expect(verbose.stderr).toMatch(/TypeError: a mistake\n +at .*caused by: Error: behind it\n +at /s);
    const several: Configuration = {
      broker: () => {
        const problems = ["one", "two"].map(
          (what) => new MessagingError("conflict", what, { cause: new Error(`behind ${what}`) }),
        );
        throw new MessagingError("start-failed", "2 problems", { problems });
      },
      destinations: [queue("orders")],
    };
    const each = await command(["topology", "show", "--verbose"], { configuration: several });
    expect(each.stderr).toMatch(
      /problem: .*: one\n +at .*caused by: Error: behind one\n +at .*caused by: Error: behind two/s,
    );
    const json = await command(["topology", "show", "--json"], { configuration });
    expect(JSON.parse(json.stderr)).toEqual({
      error: { code: "internal", message: "a mistake", exit: "internal", exitCode: 70, problems: [] },
    });
  });
});

test("AsyncAPI is printed or written, the same each time", async () => {
  const configuration: Configuration = { broker: () => memory(), destinations: [queue("orders")] };
  const line = ["asyncapi", "--title", "Shop"];
  const { code, stdout } = await command(line, { configuration });
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ asyncapi: "3.0.0", info: { title: "Shop", version: "1.0.0" } });
  expect((await command(line, { configuration })).stdout).toBe(stdout);
  const json = await command([...line, "--plain", "--payload", "output", "--json"], { configuration });
  expect(documented(json.stdout)).toMatchObject({ out: null, document: { info: { title: "Shop" } } });
  const wrong = await command([...line, "--out", "a.json"], { configuration, cwd: "/nonexistent" });
  expect([wrong.code, wrong.stderr]).toEqual([73, expect.stringContaining("cannot be written")]);
  expect((await command(["asyncapi"], { configuration })).code).toBe(64);
});
