import { describeValkey } from "../brokers/suite.ts";
import { runSnippets } from "./run-snippets.ts";

describeValkey("the documentation's programs on Valkey", (broker) => {
  runSnippets(
    "valkey",
    () => ({ ...broker.newNamespace(), namePrefix: "" }),
    (code) => code.replaceAll("redis://localhost:6379", broker.url),
  );
});
