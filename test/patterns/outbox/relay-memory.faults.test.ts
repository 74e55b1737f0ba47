import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import { describePostgres } from "../../brokers/suite.ts";
import { relayCases } from "./relay-cases.ts";
import { postgresSource } from "./relay-sources.ts";

describePostgres("relays from Postgres to the in-process broker", (postgres) => {
  const space = memorySpace();
  relayCases({ name: "memory", adapter: () => memory({ space }) }, postgresSource(postgres));
});
