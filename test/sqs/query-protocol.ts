/** The query protocol of AWS, which SNS speaks: a form for the question, XML for the answer. */

interface Tree {
  [name: string]: Tree | string;
}

/** Reads a form such as `Action=Publish&Tags.member.1.Key=a`, with lists as arrays and maps as objects. */
export function readQuery(form: string): { readonly action: string; readonly input: Record<string, unknown> } {
  const tree: Tree = {};
  for (const [path, value] of new URLSearchParams(form)) {
    const names = path.split(".");
    const last = names.pop() ?? "";
    let node = tree;
    for (const name of names) {
      const next = node[name] ?? {};
      node[name] = next;
      node = next as Tree;
    }
    node[last] = value;
  }
  const { Action: action, Version: _, ...input } = tree;
  return { action: String(action), input: plain(input) as Record<string, unknown> };
}

function plain(node: Tree | string): unknown {
  if (typeof node === "string") return node;
  const { member, entry } = node;
  if (member !== undefined) return Object.values(member).map(plain);
  if (entry !== undefined) {
    // Attributes of a topic have a key and a value, those of a message a name and a value.
    return Object.fromEntries(
      Object.values(entry as Tree).map((one) => {
        const { key, Name, value, Value } = one as Tree;
        return [String(key ?? Name), plain(value ?? Value ?? "")];
      }),
    );
  }
  return Object.fromEntries(Object.entries(node).map(([name, value]) => [name, plain(value)]));
}

export function writeAnswer(action: string, output: unknown): string {
  return `<${action}Response><${action}Result>${xml(output)}</${action}Result></${action}Response>`;
}

export function writeError(code: string, message: string): string {
  return `<ErrorResponse><Error>${xml({ Type: "Sender", Code: code, Message: message })}</Error></ErrorResponse>`;
}

function xml(value: unknown): string {
  if (Array.isArray(value)) return value.map((one) => `<member>${xml(one)}</member>`).join("");
  if (typeof value !== "object" || value === null) return escaped(String(value));
  return Object.entries(value)
    .filter(([, one]) => one !== undefined)
    .map(([name, one]) => `<${name}>${name === "Attributes" ? map(one) : xml(one)}</${name}>`)
    .join("");
}

function map(entries: Record<string, unknown>): string {
  return Object.entries(entries)
    .map(([key, value]) => `<entry>${xml({ key, value })}</entry>`)
    .join("");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
