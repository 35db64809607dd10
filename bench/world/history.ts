import { readFileSync } from 'node:fs';
import { Client } from 'pg';
import type { World } from './world.ts';

/** Jobs per statement: a transaction of some seconds. */
const CHUNK_ROWS = 100_000;
const FILL = readFileSync(new URL('./fill-history.sql', import.meta.url), 'utf8');

/** How large the ledger is. */
export interface LedgerSize {
  readonly jobs: number;
  readonly transfers: number;
  readonly bytes: number;
}

/** Gives a world a past of `rows` ended jobs, as its `fill-history.sql` says, and vacuums and analyses it. */
export async function fillHistory(
  world: World,
  rows: number,
  onProgress: (done: number) => void,
): Promise<LedgerSize> {
  return asAdmin(world, async (client) => {
    const [model] = world.plan.models;
    for (let first = 0; first < rows; first += CHUNK_ROWS) {
      await client.query(FILL, [first, Math.min(CHUNK_ROWS, rows - first), rows, model]);
      onProgress(Math.min(rows, first + CHUNK_ROWS));
    }
    // As autovacuum would have left it in the course of a month; a checkpoint, so that the runs do not pay for this.
    await client.query('vacuum (analyze) jobs.jobs');
    await client.query('vacuum (analyze) credits.transfers');
    await client.query('vacuum (analyze) credits.accounts');
    await client.query('checkpoint');
    return sizeOf(client);
  });
}

/** What stands in the ledger of a world now. */
export function ledgerSize(world: World): Promise<LedgerSize> {
  return asAdmin(world, sizeOf);
}

async function sizeOf(client: Client): Promise<LedgerSize> {
  const { rows } = await client.query<{ jobs: number; transfers: number; bytes: number }>(
    `select (select count(*)::integer from jobs.jobs) as jobs, (select count(*)::integer from credits.transfers) as transfers,
            (select sum(pg_total_relation_size(relid))::double precision
               from (select relid from pg_partition_tree('jobs.jobs')
                     union all select relid from pg_partition_tree('credits.transfers')) as parts) as bytes`,
  );
  const [size] = rows;
  if (size === undefined) throw new Error('the ledger told no size');
  return size;
}

async function asAdmin<T>({ servers }: World, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: servers.postgresAdminUrl });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
