export { type FileMigrationStoreOptions, fileMigrationStore } from "./store.ts";
