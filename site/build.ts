// Builds the site in dist/: the pages, the API reference and llms.txt. Ends with 1 if a link or an anchor leads nowhere.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { LinkChecker } from "linkinator";
import { Application } from "typedoc";
import { build, serve } from "vitepress";
import { layOut, PUBLIC } from "./pages.ts";

const PORT = 4173;
const ROOT = join(import.meta.dirname, "..");

/** The entry points that package.json exports, by their source. */
function entryPoints(): ReadonlyMap<string, string> {
  const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    exports: Readonly<Record<string, string | { readonly default: string }>>;
  };
  return new Map(
    Object.entries(exports).flatMap(([entry, target]) => {
      if (typeof target === "string") return [];
      const source = target.default.replace("./dist/", "").replace(/\.js$/, ".ts");
      return [[source, `anybroker${entry.slice(1)}`] as const];
    }),
  );
}

async function reference(): Promise<void> {
  const names = entryPoints();
  const app = await Application.bootstrap({
    name: "anybroker",
    entryPoints: [...names.keys()].map((source) => join(ROOT, source)),
    tsconfig: join(ROOT, "tsconfig.build.json"),
    readme: "none",
    sortEntryPoints: false,
    navigation: { includeFolders: false },
    disableSources: true,
    excludePrivate: true,
    excludeInternal: true,
    navigationLinks: { Documentation: "/" },
    validation: { notExported: false, invalidLink: true, notDocumented: false },
    treatValidationWarningsAsErrors: true,
  });
  const project = await app.convert();
  if (project === undefined) throw new Error("the API reference could not be made");
  for (const module of project.children ?? []) {
    module.name = names.get(`${module.name}/index.ts`) ?? names.get(`${module.name}.ts`) ?? module.name;
  }
  app.validate(project);
  await app.generateDocs(project, join(PUBLIC, "api"));
  if (app.logger.hasErrors()) throw new Error("the API reference has errors");
}

async function brokenLinks(): Promise<readonly string[]> {
  const preview = await serve({ root: import.meta.dirname, port: PORT });
  const site = `http://localhost:${PORT}/`;
  try {
    const { links } = await new LinkChecker().check({
      path: site,
      recurse: true,
      checkFragments: true,
      // Other sites are theirs: the build does not depend on the network.
      linksToSkip: async (link) => !link.startsWith(site),
    });
    console.log(`${links.length} links`);
    return links
      .filter(({ state }) => state === "BROKEN")
      .map(({ url, parent, failureDetails = [] }) => {
        const why = failureDetails.map((detail) => (detail instanceof Error ? detail.message : `${detail.status}`));
        return `${parent}: ${url}: ${why.join(", ")}`;
      });
  } finally {
    preview.server.close();
  }
}

layOut();
await reference();
await build(import.meta.dirname);
const broken = await brokenLinks();
for (const link of broken) console.error(link);
process.exitCode = broken.length === 0 ? 0 : 1;
