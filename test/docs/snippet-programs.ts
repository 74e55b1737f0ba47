import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { type BuiltPackage, buildPackage, developmentEnvironment, ROOT } from "../package/built-package.ts";
import { runCompiled } from "../package/compiled-program.ts";
import { programName, type Snippet } from "./snippets.ts";

const run = promisify(execFile);
const LONGEST_RUN_MS = 300_000;

/** Not compiled with the others: some are no whole programs, some need options of their own. */
const APART = ["sketch", "decorators"];
const DECORATORS = { experimentalDecorators: true, emitDecoratorMetadata: true };

/** Snippets written out as programs beside the built package, which they import by its name. */
export class SnippetPrograms {
  readonly #built: BuiltPackage;
  readonly #folder: string;

  private constructor(built: BuiltPackage) {
    this.#built = built;
    this.#folder = join(built.folder, "snippets");
    mkdirSync(this.#folder);
  }

  static async of(snippets: readonly Snippet[], replaced: (code: string) => string = (code) => code) {
    const programs = new SnippetPrograms(await buildPackage());
    for (const snippet of snippets.filter(({ kind }) => !APART.includes(kind))) {
      // As if it stood in a folder of the tests.
      const code = snippet.code.replaceAll(' from "../', ` from "${ROOT}test/`);
      writeFileSync(join(programs.#folder, programName(snippet)), replaced(`${code}\nexport {};\n`));
    }
    return programs;
  }

  /** Compiles all of them in one go, with the options of the project; returns what the compiler has to say. */
  async compile(): Promise<string> {
    const config = {
      extends: join(ROOT, "tsconfig.json"),
      compilerOptions: {
        rootDir: "/",
        outDir: "out",
        noUnusedLocals: false,
        noUnusedParameters: false,
        rewriteRelativeImportExtensions: false,
      },
      include: ["*.ts"],
      exclude: [],
    };
    writeFileSync(join(this.#folder, "tsconfig.json"), JSON.stringify(config));
    try {
      await run("tsc", ["-p", this.#folder], { cwd: this.#folder, env: developmentEnvironment() });
      return "";
    } catch (error) {
      return (error as { stdout?: string }).stdout || String(error);
    }
  }

  /** Runs one to its end; rejects if that is not reached, or ends badly. */
  async run(snippet: Snippet): Promise<string> {
    if (snippet.kind === "decorators") {
      return runCompiled(this.#built.folder, programName(snippet), snippet.code, DECORATORS);
    }
    const { stdout } = await run("node", [programName(snippet)], {
      cwd: this.#folder,
      env: developmentEnvironment(),
      timeout: LONGEST_RUN_MS,
    });
    return stdout;
  }

  remove(): void {
    this.#built.remove();
  }
}
