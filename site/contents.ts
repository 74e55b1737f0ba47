/** The pages in the order in which they are read. The sidebar of the site and llms.txt follow it. */
export interface Section {
  readonly title: string;
  /** Paths from the root of the repository. */
  readonly pages: readonly string[];
}

export const CONTENTS: readonly Section[] = [
  {
    title: "Start",
    pages: ["README.md", "examples/README.md", "docs/guides/coming-from.md", "docs/glossary.md"],
  },
  {
    title: "Reference",
    pages: [
      "docs/guarantees.md",
      "docs/capabilities.md",
      "docs/options.md",
      "docs/errors.md",
      "docs/urls.md",
      "docs/cli.md",
    ],
  },
  { title: "Brokers", pages: ["docs/rabbitmq.md", "docs/kafka.md", "docs/sqs.md"] },
  {
    title: "Patterns",
    pages: [
      "docs/dead-letters.md",
      "docs/idempotency.md",
      "docs/outbox.md",
      "docs/backpressure.md",
      "docs/migration.md",
    ],
  },
  {
    title: "Operations",
    pages: [
      "docs/guides/in-production.md",
      "docs/guides/capacity.md",
      "docs/guides/scaling-ordered.md",
      "docs/guides/tenants-and-regions.md",
      "docs/guides/personal-data.md",
      "docs/benchmarks.md",
    ],
  },
  { title: "Integrations", pages: ["docs/inversify.md", "docs/testing-kit.md", "docs/asyncapi.md"] },
  {
    title: "Adapters",
    pages: ["docs/adapters.md", "docs/conformance.md"],
  },
  {
    title: "The project",
    pages: [
      "docs/architecture.md",
      "docs/design-decisions.md",
      "docs/testing.md",
      "CONTRIBUTING.md",
      "SECURITY.md",
      "CODE_OF_CONDUCT.md",
      "CHANGELOG.md",
    ],
  },
];
