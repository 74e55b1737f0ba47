import type { TopicPartition } from "../port.ts";
import { type OwnedPartition, partitionKey } from "./owned-partition.ts";
import type { PartitionLedger } from "./partition-ledger.ts";

/** The partitions that are ours and that we know our way in. */
export class OwnedPartitions {
  readonly #byKey = new Map<string, OwnedPartition>();
  readonly #byLedger = new Map<PartitionLedger, OwnedPartition>();
  #all: readonly OwnedPartition[] = [];

  /** In no order that matters; does not change under a caller. */
  get all(): readonly OwnedPartition[] {
    return this.#all;
  }

  get(at: TopicPartition): OwnedPartition | undefined {
    return this.#byKey.get(partitionKey(at));
  }

  /** The one whose ledger it is, as long as it is ours. */
  of(ledger: PartitionLedger): OwnedPartition | undefined {
    return this.#byLedger.get(ledger);
  }

  add(partition: OwnedPartition): void {
    this.#byKey.set(partitionKey(partition), partition);
    this.#byLedger.set(partition.ledger, partition);
    this.#all = [...this.#byKey.values()];
  }

  remove(partition: OwnedPartition): void {
    if (this.#byKey.get(partitionKey(partition)) !== partition) return;
    this.#byKey.delete(partitionKey(partition));
    this.#byLedger.delete(partition.ledger);
    this.#all = [...this.#byKey.values()];
  }
}
