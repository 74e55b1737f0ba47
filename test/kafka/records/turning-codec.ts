import kafkajs from "kafkajs";

/** Runs something while a codec of the tests' own stands registered with kafkajs for snappy: every byte turned over. */
export async function withTurningCodec(run: () => Promise<void>): Promise<void> {
  const { Snappy } = kafkajs.CompressionTypes;
  const codecs = kafkajs.CompressionCodecs as unknown as Record<number, (() => unknown) | undefined>;
  const before = codecs[Snappy];
  const turned = async (input: Buffer): Promise<Buffer> => Buffer.from(input.map((byte) => byte ^ 0xff));
  codecs[Snappy] = () => ({ compress: (encoder: { buffer: Buffer }) => turned(encoder.buffer), decompress: turned });
  try {
    await run();
  } finally {
    codecs[Snappy] = before;
  }
}
