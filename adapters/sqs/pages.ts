import { AnswerShapeError } from "./answers.ts";

/** A million topics or subscriptions, ten times as many topics as AWS lets an account have of itself. */
const MOST_PAGES = 10_000;
/** Those of AWS have some hundred characters. */
const LONGEST_TOKEN = 10_000;

/**
 * The pages of a listing, one after another; `ask` gives the one that a token leads to, the first without. Rejects with an
 * {@link AnswerShapeError} for what would never end: a token that comes again, or over 10,000 pages.
 */
export async function* pagesOf<Page extends { readonly NextToken?: string | undefined }>(
  what: string,
  ask: (token: { readonly NextToken?: string }) => Promise<Page>,
): AsyncGenerator<Page> {
  const seen = new Set<string>();
  let page = await ask({});
  yield page;
  for (let { NextToken } = page; NextToken; { NextToken } = page) {
    const none = `what lists ${what} is no SNS: `;
    if (NextToken.length > LONGEST_TOKEN || seen.has(NextToken)) {
      throw new AnswerShapeError(`${none}its pages lead back to one that was read, or nowhere`);
    }
    if (seen.size >= MOST_PAGES) throw new AnswerShapeError(`${none}it has over ${MOST_PAGES} pages`);
    seen.add(NextToken);
    page = await ask({ NextToken });
    yield page;
  }
}
