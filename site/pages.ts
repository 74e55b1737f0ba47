// Lays out pages/, from which the site is built: the documents of the repository where their links expect each other,
// the files that they link to, and llms.txt.
import { cpSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { CONTENTS } from "./contents.ts";

const ROOT = join(import.meta.dirname, "..");
export const PAGES = join(import.meta.dirname, "pages");
export const PUBLIC = join(PAGES, "public");

const LINK = /\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]+)?\)/g;
const HOME = `---
layout: home
hero:
  name: anybroker
  text: Queues and events that do not lose messages
  tagline: One typed interface over RabbitMQ, Kafka, SQS/SNS and in process, for TypeScript.
  actions:
    - { theme: brand, text: Five minutes, link: /README#five-minutes }
    - { theme: alt, text: What is guaranteed, link: /docs/guarantees }
    - { theme: alt, text: API, link: /api/, target: _self }
features:
  - title: Confirmed, or an error
    details: A send resolves when the broker has confirmed it. A message leaves its queue when its handler has returned or its copy is confirmed.
    link: /docs/guarantees
  - title: The broker is one line
    details: Delivery, retries, order, dead letters and backpressure behave the same on each broker. What a broker lacks is refused at start.
    link: /docs/capabilities
  - title: One message never stops the others
    details: A message that fails, cannot be decoded or crashes its consumer is isolated. A restart is no crash.
    link: /docs/guarantees#messages-that-crash-their-consumers
  - title: Dead letters are work, not waste
    details: Find, group, edit, replay and discard them with the same commands on each broker, with a plan and a record.
    link: /docs/dead-letters
  - title: Effects exactly once
    details: Idempotent consumers, and an outbox and inbox in the transaction of your data.
    link: /docs/outbox
  - title: Move on when you outgrow it
    details: Migrate a running service to another broker in order per key, with a way back at each step.
    link: /docs/migration
---
`;

export function read(page: string): string {
  return readFileSync(join(ROOT, page), "utf8");
}

/** The title of a page. */
export function titleOf(page: string): string {
  return /^# (.+)$/m.exec(read(page))?.[1] ?? page;
}

/** The first paragraph of a page, without markup. */
function summaryOf(page: string): string {
  const paragraph = read(page)
    .split(/\n{2,}/)
    .find((block) => /^[A-Z`*[]/.test(block));
  return (paragraph ?? "")
    .replaceAll(/\[([^\]]+)\]\([^)]*\)/g, "$1")
    .replaceAll("**", "")
    .replaceAll("\n", " ");
}

/** The index for language models, as https://llmstxt.org describes it. Its links are relative. */
export function llms(): string {
  const sections = CONTENTS.map(
    ({ title, pages }) =>
      `## ${title}\n\n${pages.map((page) => `- [${titleOf(page)}](${page}): ${summaryOf(page)}`).join("\n")}\n`,
  );
  return `# anybroker\n\n> ${summaryOf("README.md")}\n\n${sections.join("\n")}`;
}

function llmsFull(): string {
  return CONTENTS.flatMap(({ pages }) => pages.map((page) => `<!-- ${page} -->\n\n${read(page).trim()}\n`)).join("\n");
}

/** Code that a page links to is served as it is. */
function withFiles(page: string): string {
  return read(page).replaceAll(LINK, (link, path: string) => {
    if (path.endsWith(".md")) return link;
    const target = normalize(join(dirname(page), path));
    cpSync(join(ROOT, target), join(PUBLIC, target), { recursive: true });
    return `](/${target}){target="_self"}`;
  });
}

export function layOut(): void {
  rmSync(PAGES, { recursive: true, force: true });
  mkdirSync(PUBLIC, { recursive: true });
  const inContents = CONTENTS.flatMap(({ pages }) => pages);
  const examples = globSync("examples/*/README.md", { cwd: ROOT });
  for (const page of new Set([...inContents, ...examples])) {
    for (const folder of [PAGES, PUBLIC]) mkdirSync(dirname(join(folder, page)), { recursive: true });
    writeFileSync(join(PAGES, page), withFiles(page));
    // The page as Markdown, to which llms.txt links.
    cpSync(join(ROOT, page), join(PUBLIC, page));
  }
  const [example = ""] = /^```ts$.+?^```$/ms.exec(read("README.md")) ?? [];
  writeFileSync(join(PAGES, "index.md"), `${HOME}\n${example}\n`);
  writeFileSync(join(PUBLIC, "llms.txt"), llms());
  writeFileSync(join(PUBLIC, "llms-full.txt"), llmsFull());
}

if (import.meta.main) layOut();
