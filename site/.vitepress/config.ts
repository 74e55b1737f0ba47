import { defineConfig } from "vitepress";
import { CONTENTS } from "../contents.ts";
import { titleOf } from "../pages.ts";

const linkOf = (page: string): string => `/${page.replace(/\.md$/, "").replace(/(^|\/)README$/, "$1README")}`;
const textOf = (page: string): string => (page === "README.md" ? "Introduction" : titleOf(page));

export default defineConfig({
  title: "anybroker",
  description: "One typed interface for work queues and publish/subscribe over RabbitMQ, Kafka, SQS/SNS and in process",
  lang: "en",
  srcDir: "pages",
  srcExclude: ["public/**"],
  outDir: "dist",
  cleanUrls: true,
  metaChunk: true,
  markdown: {
    // As GitHub makes them, so that links work in both.
    anchor: {
      slugify: (title) =>
        title
          .toLowerCase()
          .replace(/[^\p{L}\p{N}\s_-]/gu, "")
          .trim()
          .replaceAll(/\s/g, "-"),
    },
  },
  themeConfig: {
    search: { provider: "local" },
    outline: [2, 3],
    nav: [
      { text: "Guarantees", link: "/docs/guarantees" },
      {
        text: "Patterns",
        items:
          CONTENTS.find(({ title }) => title === "Patterns")?.pages.map((page) => ({
            text: textOf(page),
            link: linkOf(page),
          })) ?? [],
      },
      { text: "API", link: "/api/", target: "_self" },
    ],
    sidebar: CONTENTS.map(({ title, pages }) => ({
      text: title,
      collapsed: false,
      items: pages.map((page) => ({ text: textOf(page), link: linkOf(page) })),
    })),
  },
});
