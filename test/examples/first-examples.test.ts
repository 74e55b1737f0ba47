import { describe } from "vitest";
import { testFirstExamples } from "./first-examples.ts";

describe("the smallest examples in process", () => {
  testFirstExamples(() => ({}));
});
