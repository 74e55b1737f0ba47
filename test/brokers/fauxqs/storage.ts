import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** Where fauxqs looks in its data folder. */
export const STORAGE_FILE = "fauxqs.db";

/**
 * Makes a storage in which messages can be given back. Where fauxqs 2.4.1 keeps its data, it writes NULL as the receive
 * count of a message whose visibility timeout is set to 0, into a column that takes none: the request fails, and the
 * message is gone until the next restart, its group blocked. It leaves a table that is there already as it is; so this
 * one comes with a trigger that keeps the count and writes the rest. All else is as fauxqs would make it.
 */
export async function makeStorage(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  const file = join(folder, STORAGE_FILE);
  const database = new DatabaseSync(file);
  try {
    database.exec(MESSAGES);
    database.exec(GIVEN_BACK);
  } finally {
    database.close();
  }
  return file;
}

const MESSAGES = `
CREATE TABLE sqs_messages (
  message_id TEXT PRIMARY KEY,
  queue_name TEXT NOT NULL REFERENCES sqs_queues(name) ON DELETE CASCADE,
  body TEXT NOT NULL,
  md5_of_body TEXT NOT NULL,
  message_attributes TEXT NOT NULL,
  md5_of_message_attributes TEXT NOT NULL,
  sent_timestamp INTEGER NOT NULL,
  approximate_receive_count INTEGER NOT NULL DEFAULT 0,
  approximate_first_receive_timestamp INTEGER,
  delay_until INTEGER,
  message_group_id TEXT,
  message_deduplication_id TEXT,
  sequence_number TEXT,
  receipt_handle TEXT,
  visibility_deadline INTEGER
)`;

const GIVEN_BACK = `
CREATE TRIGGER given_back BEFORE UPDATE ON sqs_messages WHEN NEW.approximate_receive_count IS NULL
BEGIN
  UPDATE sqs_messages SET receipt_handle = NULL, visibility_deadline = NULL WHERE message_id = OLD.message_id;
  SELECT RAISE(IGNORE);
END`;
