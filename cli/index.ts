export { type BrokerChoice, type Configuration, defineConfig } from "./configuration.ts";
