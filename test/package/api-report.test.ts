import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { CompilerState, Extractor, ExtractorConfig, ExtractorLogLevel } from "@microsoft/api-extractor";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuiltPackage, buildPackage, ROOT } from "./built-package.ts";

interface Manifest {
  readonly exports: Readonly<Record<string, string | { readonly types: string }>>;
}

const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;
const entries = Object.entries(exports).flatMap(([entry, target]) =>
  typeof target === "string" ? [] : { name: `anybroker${entry.slice(1)}`, types: target.types },
);
const UPDATE = process.env.UPDATE === "1";
const HOW = "the public surface changed: run UPDATE=1 npx vitest run test/package/api-report.test.ts, and review etc/";
const QUIET = { default: { logLevel: ExtractorLogLevel.None } };

let built: BuiltPackage;
let configs: ReadonlyMap<string, ExtractorConfig>;
let compilerState: CompilerState;

function configOf(folder: string, name: string, types: string): ExtractorConfig {
  return ExtractorConfig.prepare({
    configObject: {
      projectFolder: folder,
      mainEntryPointFilePath: join(folder, types),
      compiler: { tsconfigFilePath: join(folder, "tsconfig.json") },
      apiReport: {
        enabled: true,
        reportFolder: join(folder, "etc"),
        reportTempFolder: join(folder, "etc-temp"),
        reportFileName: `${name.replaceAll("/", "-")}.api.md`,
      },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      newlineKind: "lf",
      messages: {
        extractorMessageReporting: QUIET,
        compilerMessageReporting: QUIET,
        tsdocMessageReporting: QUIET,
      },
    },
    packageJsonFullPath: join(folder, "package.json"),
    configObjectFullPath: undefined,
  });
}

beforeAll(async () => {
  built = await buildPackage();
  const { folder } = built;
  mkdirSync(join(folder, "etc"));
  const compilerOptions = {
    ...{ target: "es2022", lib: ["es2024"], module: "nodenext", moduleResolution: "nodenext", types: ["node"] },
    ...{ strict: true, skipLibCheck: true },
  };
  const files = entries.map(({ types }) => types);
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  configs = new Map(entries.map(({ name, types }) => [name, configOf(folder, name, types)]));
  const [first, ...others] = [...configs.values()];
  if (first === undefined) throw new Error("no entry points");
  // One program for all of them.
  compilerState = CompilerState.create(first, {
    additionalEntryPoints: others.map(({ mainEntryPointFilePath }) => mainEntryPointFilePath),
  });
});

afterAll(() => built?.remove());

test.for(entries)("the report of $name in etc/ is what it exports", ({ name }) => {
  const config = configs.get(name);
  if (config === undefined) throw new Error(name);
  Extractor.invoke(config, {
    localBuild: true,
    compilerState,
    messageCallback: (message) => {
      message.handled = true;
    },
  });
  const made = readFileSync(config.reportFilePath, "utf8");
  const kept = join(ROOT, "etc", basename(config.reportFilePath));
  if (UPDATE) writeFileSync(kept, made);
  expect(readFileSync(kept, "utf8"), HOW).toBe(made);
});

test("anybroker exports 40 names or fewer", () => {
  const report = readFileSync(join(ROOT, "etc/anybroker.api.md"), "utf8");
  const names = new Set(
    [...report.matchAll(/^export (?:\w+ )?(?:class|function|type|interface|const) (\w+)/gm)].map(([, name]) => name),
  );
  expect(names.size).toBeGreaterThan(20);
  expect(names.size).toBeLessThanOrEqual(40);
});
