import { describePostgres } from "../brokers/suite.ts";
import { runSnippets } from "./run-snippets.ts";

describePostgres("the documentation's programs on Postgres", (broker) => {
  runSnippets(
    "postgres",
    async () => ({ ...(await broker.newDatabase()), namePrefix: "" }),
    (code, { url }) => code.replaceAll("postgres://user:password@localhost:5432/shop", url),
  );
});
