import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT } from "./built-package.ts";
import {
  DOCUMENTS,
  type InstalledPackage,
  installPackage,
  MANIFEST,
  runHere,
  runProgram,
} from "./installed-package.ts";
import { compileWith, RESOLUTIONS, writeTypedProjects } from "./typed-projects.ts";

const CLIENT = "amqplib";
/** More than a program may take, so that the program is ended by then. */
const SLOW = { timeout: 400_000 };
const PEERS = Object.keys(MANIFEST.peerDependencies);

let installed: InstalledPackage;

beforeAll(async () => {
  installed = await installPackage(CLIENT);
  writeTypedProjects(installed.project);
}, 600_000);

afterAll(() => installed?.remove());

const program = (code: string): Promise<string> => runProgram(installed.project, code);

describe("the tarball", SLOW, () => {
  test("holds what users need and nothing else", () => {
    const others = installed.files.filter(
      (path) =>
        !/^(docs|examples)\//.test(path) &&
        !/^dist\/(core|sql|adapters|patterns|integrations|cli|conformance)\/.*\.(js|d\.ts)$/.test(path),
    );
    expect(others.sort()).toEqual([...DOCUMENTS, "package.json"].sort());
    expect(installed.files).toContain("dist/core/index.js");
    expect(installed.files).toContain("dist/core/index.d.ts");
  });

  test("runs nothing when it is installed", () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { scripts: object };
    for (const name of ["preinstall", "install", "postinstall", "prepare"]) expect(scripts).not.toHaveProperty(name);
  });

  test("has nothing that publint, in its strict mode, objects to", async () => {
    expect(await runHere(ROOT, "publint", "--strict", installed.tarball)).toContain("All good!");
  });

  test("has types that go with its modules, by arethetypeswrong", async () => {
    const told = await runHere(ROOT, "attw", "--profile", "esm-only", "--format", "json", installed.tarball);
    const { analysis } = JSON.parse(told) as { readonly analysis: { readonly entrypoints: object } };
    expect(Object.keys(analysis.entrypoints).sort()).toEqual(Object.keys(MANIFEST.exports).sort());
  });
});

describe("a project with inversify and one client", SLOW, () => {
  test("has the command", async () => {
    const command = join(installed.project, "node_modules/.bin/anybroker");
    const shown = await runHere(installed.project, command, "topology", "show", "queue:orders", "--broker", "memory:");
    expect(shown).toMatch(/^queue:orders +queue orders/m);
  });

  test("has these and no other optional package", async () => {
    const found = await program(`
      const found = [];
      for (const name of ${JSON.stringify(PEERS)}) {
        await import(name).then(() => found.push(name), () => undefined);
      }
      console.log(found.sort().join());
    `);
    expect(found).toBe(`${CLIENT},inversify\n`);
  });

  test("runs services in a container on the in-process broker, starts them again, and ends by itself", async () => {
    const printed = await program(`
      import "reflect-metadata";
      import { createBroker, queue } from "anybroker";
      import { bindHandler, messagingModule, PUBLISHER, startMessaging } from "anybroker/inversify";
      import { fromUrl } from "anybroker/url";
      import { Container } from "inversify";

      const orders = queue("orders");
      let handled;
      class Billing {
        handle(order) {
          console.log("billed", order);
          handled.resolve();
        }
      }

      const container = new Container();
      await container.load(messagingModule({ broker: createBroker(await fromUrl("memory:")) }));
      bindHandler(container, orders, Billing);
      for (const order of ["o-1", "o-2"]) {
        handled = Promise.withResolvers();
        const messaging = await startMessaging(container);
        await container.get(PUBLISHER).send(orders, order);
        await handled.promise;
        await messaging.stop();
      }
      await container.unbindAllAsync();
    `);
    expect(printed).toBe("billed o-1\nbilled o-2\n");
  });

  test("has the adapter of its client by URL, and is told what to install for the others", async () => {
    const printed = await program(`
      import { fromUrl } from "anybroker/url";
      console.log((await fromUrl("amqp://localhost")).name);
      for (const url of ["kafka://localhost", "sqs://eu-central-1"]) {
        const { name, code, message, cause } = await fromUrl(url).catch((error) => error);
        console.log([name, code, cause.code, message].join(" | "));
      }
    `);
    const [rabbitmq, kafka, sqs] = printed.split("\n");
    expect(rabbitmq).toBe("rabbitmq");
    const missing = "MessagingError | unsupported | ERR_MODULE_NOT_FOUND";
    expect(kafka).toBe(
      `${missing} | fromUrl("kafka:…") needs the package kafkajs, which is not installed: npm install kafkajs@~2.2.4`,
    );
    // Node.js stops at whichever it comes to first.
    expect(sqs?.replace(/package @aws-sdk\/client-s[qn]s,/, "package of the two,")).toBe(
      `${missing} | fromUrl("sqs:…") needs the package of the two, which is not installed: npm install @aws-sdk/client-sqs @aws-sdk/client-sns`,
    );
  });

  test("ends by itself after a start that found no broker", async () => {
    const printed = await program(`
      import { createBroker } from "anybroker";
      import { fromUrl } from "anybroker/url";
      const broker = createBroker(await fromUrl("amqp://localhost:1?connectTimeoutMs=500"));
      for (const again of [1, 2]) console.log((await broker.start().catch((error) => error)).code);
    `);
    expect(printed).toBe("start-failed\nstart-failed\n");
  });

  test("what is not exported cannot be imported", async () => {
    const printed = await program(`
      console.log((await import("anybroker/dist/core/index.js").catch((error) => error)).code);
    `);
    expect(printed).toBe("ERR_PACKAGE_PATH_NOT_EXPORTED\n");
  });
});

test("what is imported asks for no optional package, and for nothing that only the command needs", async () => {
  const printed = await program(`
    import { registerHooks } from "node:module";
    const optional = ${JSON.stringify([...PEERS, "reflect-metadata", "yargs", "cli-table3", "cli-progress"])};
    registerHooks({
      resolve(specifier, context, next) {
        if (optional.some((name) => specifier === name || specifier.startsWith(name + "/"))) {
          throw new Error(specifier + " is asked for");
        }
        return next(specifier, context);
      },
    });
    const { createBroker, queue } = await import("anybroker");
    const { defineConfig } = await import("anybroker/cli");
    defineConfig({ destinations: [queue("orders")] });
    const { fromUrl } = await import("anybroker/url");
    const broker = createBroker(await fromUrl("memory:"));
    const done = new Promise((resolve) => broker.consume(queue("orders"), (body) => resolve(body)));
    await broker.start();
    await broker.send(queue("orders"), "hello");
    console.log(await done);
    await broker.stop();
    console.log((await import("anybroker/rabbitmq").catch((error) => error)).message);
  `);
  expect(printed).toBe("hello\namqplib is asked for\n");
});

describe.for([
  ["7", () => join(ROOT, "node_modules/.bin/tsc")],
  ["5.9", () => join(installed.project, "node_modules/.bin/tsc")],
] as const)("with TypeScript %s", SLOW, ([version, tsc]) => {
  test("is that version", async () => {
    expect(await runHere(installed.project, tsc(), "--version")).toContain(`Version ${version}`);
  });

  test.for(RESOLUTIONS)("the types compile with module resolution %s", async (resolution) => {
    await compileWith(tsc(), installed.project, resolution);
  });
});

describe("the pages in the package", () => {
  const pages = (): readonly string[] => installed.files.filter((path) => path.endsWith(".md"));

  test("are all that the repository has", () => {
    expect(pages().filter((path) => path.startsWith("docs/")).length).toBeGreaterThan(15);
  });

  test("link to files of the package", () => {
    const folder = join(installed.project, "node_modules/anybroker");
    const broken = pages().flatMap((page) =>
      [...readFileSync(join(folder, page), "utf8").matchAll(/\]\((?!https?:)([^)#\s]+)/g)]
        .map(([, path = ""]) => path)
        .filter((path) => !existsSync(join(folder, dirname(page), path)))
        .map((path) => `${page}: ${path}`),
    );
    expect(broken).toEqual([]);
  });
});

/** Sends one message on the in-process broker and prints it. */
const HELLO = `
  const broker = createBroker(memory());
  const hello = queue("hello");
  const handled = new Promise((resolve) => broker.consume(hello, resolve));
  broker.start()
    .then(() => broker.send(hello, "handled"))
    .then(() => handled)
    .then((body) => console.log(body))
    .then(() => broker.stop());
`;

describe("other ways to load it", SLOW, () => {
  const imports = `import { createBroker, queue } from "anybroker"; import { memory } from "anybroker/memory";`;

  test("require() of CommonJS", async () => {
    const file = join(installed.project, "required.cjs");
    const requires = `const { createBroker, queue } = require("anybroker"); const { memory } = require("anybroker/memory");`;
    writeFileSync(file, requires + HELLO);
    expect(await runHere(installed.project, "node", file)).toBe("handled\n");
  });

  test.for(["esm", "cjs"] as const)("bundled by esbuild as %s", async (format) => {
    const outfile = join(installed.project, `bundle.${format === "esm" ? "mjs" : "cjs"}`);
    const stdin = { contents: imports + HELLO, resolveDir: installed.project };
    const { warnings } = await build({ stdin, outfile, bundle: true, platform: "node", format, logLevel: "silent" });
    expect(warnings).toEqual([]);
    expect(await runHere(installed.project, "node", outfile)).toBe("handled\n");
  });

  test.for([
    ["bun", "run"],
    ["deno", "run", "--node-modules-dir=manual"],
  ] as const)("%s", async ([runtime, ...parameters]) => {
    const file = join(installed.project, "loaded.mjs");
    writeFileSync(file, imports + HELLO);
    expect(await runHere(installed.project, runtime, ...parameters, file)).toBe("handled\n");
  });

  test("examples/quick-start, copied out", async () => {
    const from = join(installed.project, "node_modules/anybroker/examples/quick-start");
    cpSync(from, join(installed.project, "quick-start"), { recursive: true });
    const printed = await runHere(installed.project, "node", join("quick-start", "main.ts"));
    expect(printed).not.toBe("");
  });
});

test("the README says how many packages an installation brings", () => {
  const { packages } = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as {
    readonly packages: Readonly<Record<string, { dev?: boolean; optional?: boolean; peer?: boolean }>>;
  };
  const brought = Object.values(packages).filter(({ dev, optional, peer }) => !dev && !optional && !peer);
  const said = /brings about (\d+) packages/.exec(readFileSync(join(ROOT, "README.md"), "utf8"))?.[1];
  expect(Math.round(brought.length / 10) * 10).toBe(Number(said));
});

test("a program that is wrong does not compile", async () => {
  const tsc = join(ROOT, "node_modules/.bin/tsc");
  await expect(compileWith(tsc, installed.project, "wrong")).rejects.toThrow("error TS2345");
});
