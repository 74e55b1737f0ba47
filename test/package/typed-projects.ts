import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./built-package.ts";
import { CONTAINER_PROGRAM } from "./container-program.ts";
import { MANIFEST, runHere } from "./installed-package.ts";

export const RESOLUTIONS = ["nodenext", "bundler"] as const;

type Resolution = (typeof RESOLUTIONS)[number];

const ENTRIES = Object.keys(MANIFEST.exports);
/** The entries whose declarations name the types of a client that is not installed. */
const WITHOUT_CLIENT = ["./kafka", "./sqs"];

/** Programs that use what is installed; the declarations of libraries are checked too. */
const CONSUMERS = {
  "consumer.ts": readFileSync(join(ROOT, "test/package/consumer.ts"), "utf8"),
  "container.ts": CONTAINER_PROGRAM,
  "entries.ts": importing(ENTRIES.filter((entry) => !WITHOUT_CLIENT.includes(entry))),
};

/** The projects that {@link compileWith} compiles, below the one that has the package installed. */
export function writeTypedProjects(project: string): void {
  for (const resolution of RESOLUTIONS) {
    writeProject(join(project, resolution, "consumers"), resolution, { skipLibCheck: false }, CONSUMERS);
    // The others compile for those who do not check libraries.
    const everything = join(project, resolution, "everything");
    writeProject(everything, resolution, { skipLibCheck: true }, { "entries.ts": importing(ENTRIES) });
  }
  const wrong = `import { broker } from "./consumer.ts";\nawait broker.send(5, 5);\n`;
  writeProject(
    join(project, "wrong", "consumers"),
    "nodenext",
    { skipLibCheck: true },
    { ...CONSUMERS, "wrong.ts": wrong },
  );
}

/** Compiles the programs of one kind. Rejects with what the compiler says. */
export async function compileWith(tsc: string, project: string, kind: Resolution | "wrong"): Promise<void> {
  const folders = kind === "wrong" ? ["consumers"] : ["consumers", "everything"];
  await Promise.all(folders.map((folder) => runHere(project, tsc, "-p", join(project, kind, folder))));
}

/** A program that imports these entries of the package. */
function importing(entries: readonly string[]): string {
  const names = entries.map((entry) => entry.replace(/^\./, "anybroker"));
  const imports = names.map((name, index) => {
    const as = name.endsWith(".json") ? ` with { type: "json" }` : "";
    return `import * as entry${index} from "${name}"${as};\n`;
  });
  return `${imports.join("")}export const entries = [${names.map((_, index) => `entry${index}`).join(", ")}];\n`;
}

function writeProject(
  folder: string,
  resolution: Resolution,
  more: object,
  programs: Readonly<Record<string, string>>,
): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(programs)) writeFileSync(join(folder, name), text);
  const compilerOptions = {
    strict: true,
    noEmit: true,
    target: "es2024",
    allowImportingTsExtensions: true,
    resolveJsonModule: true,
    // The strictest there is: someone else's options must not break on our declarations.
    exactOptionalPropertyTypes: true,
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
    module: resolution === "bundler" ? "esnext" : resolution,
    moduleResolution: resolution,
    types: ["node"],
    typeRoots: [join(ROOT, "node_modules/@types")],
    ...more,
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
}
