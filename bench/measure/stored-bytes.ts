import { MongoClient } from 'mongodb';
import { ledgerSize } from '../world/history.ts';
import type { World } from '../world/world.ts';

/** What a world's jobs take up on disk. */
export interface StoredBytes {
  /** Of the tables of jobs and transfers, with their indexes. */
  readonly postgres: number;
  /** Of all traces, compressed as they are, with their indexes. */
  readonly mongo: number;
}

/** Reads both stores now; MongoDB makes a checkpoint first, because its files say nothing of what came after the last one. */
export async function storedBytes(world: World): Promise<StoredBytes> {
  const { bytes } = await ledgerSize(world);
  const client = new MongoClient(world.servers.mongoUrl);
  try {
    await client.db('admin').command({ fsync: 1 });
    const { storageSize, indexSize } = await client.db().stats();
    return { postgres: bytes, mongo: Number(storageSize) + Number(indexSize) };
  } finally {
    await client.close();
  }
}
