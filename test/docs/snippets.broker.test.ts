import { afterAll, beforeAll, expect, test } from "vitest";
import type { VirtualHost } from "../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../brokers/suite.ts";
import { SnippetPrograms } from "./snippet-programs.ts";
import { allSnippets } from "./snippets.ts";

const snippets = allSnippets().filter(({ kind }) => kind === "rabbitmq");

describeRabbitMQ("the documentation's programs on RabbitMQ", (broker) => {
  let place: VirtualHost;
  let programs: SnippetPrograms;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
    programs = await SnippetPrograms.of(snippets, (code) =>
      code
        .replaceAll("amqp://guest:guest@localhost:5672", place.url)
        .replaceAll(/\b(queue|topic)((?:<[^>]*>)?)\("/g, `$1$2("${place.namePrefix}`),
    );
  });

  afterAll(async () => {
    programs.remove();
    await place.remove();
  });

  test.for(snippets)("$file, line $line, runs", async (snippet) => {
    const printed = await programs.run(snippet);
    if (snippet.output !== undefined) expect(printed).toBe(snippet.output);
  });
});
