import kafkajs from "kafkajs";

/** What kafkajs' producers and ours, and Kafka itself, take as snappy's frames. */
const FRAMED = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
const TWO_BYTES_OF_LENGTH = 61 << 2;
const LONGEST = 0x10000;

/**
 * Runs something while a codec of the tests' own stands registered with kafkajs for snappy. It makes nothing smaller, but
 * what it makes is snappy to Kafka; it reads only what it made.
 */
export async function withSnappy(run: () => Promise<void>): Promise<void> {
  const { Snappy } = kafkajs.CompressionTypes;
  const codecs = kafkajs.CompressionCodecs as unknown as Record<number, (() => unknown) | undefined>;
  const before = codecs[Snappy];
  codecs[Snappy] = () => ({
    compress: async ({ buffer }: { readonly buffer: Buffer }) => framed(buffer),
    decompress: async (bytes: Buffer) => unframed(bytes),
  });
  try {
    await run();
  } finally {
    codecs[Snappy] = before;
  }
}

function framed(bytes: Buffer): Buffer {
  if (bytes.length === 0 || bytes.length > LONGEST) throw new Error(`${bytes.length} bytes are not for this codec`);
  const literal = Buffer.alloc(3);
  literal[0] = TWO_BYTES_OF_LENGTH;
  literal.writeUInt16LE(bytes.length - 1, 1);
  const block = Buffer.concat([varint(bytes.length), literal, bytes]);
  const length = Buffer.alloc(4);
  length.writeInt32BE(block.length);
  return Buffer.concat([FRAMED, length, block]);
}

function unframed(bytes: Buffer): Buffer {
  const block = bytes.subarray(FRAMED.length + 4);
  let start = 0;
  while (((block[start] ?? 0) & 0x80) !== 0) start++;
  if (block[start + 1] !== TWO_BYTES_OF_LENGTH) throw new Error("this is of another codec");
  return Buffer.from(block.subarray(start + 4));
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left >= 0x80; left >>>= 7) bytes.push((left & 0x7f) | 0x80);
  bytes.push(left);
  return Buffer.from(bytes);
}
