import { Client } from 'pg';
import { saturatedRun } from '../../measure/runs.ts';
import type { JobMix } from '../../world/jobs.ts';
import type { World } from '../../world/world.ts';
import { HOT_SHARE } from './accounts.ts';
import type { Circumstances, Condition } from './condition.ts';

/** Somebody holds a snapshot in PostgreSQL for as long as the run goes on: no row version that it may see can be cleared away. */
export function heldSnapshot(circumstances: Circumstances): Promise<Condition> {
  return snapshotCondition(circumstances, 'a snapshot held open', {});
}

/** The same with a hot account, whose row gets a new version with every batch. */
export function heldSnapshotHot(circumstances: Circumstances): Promise<Condition> {
  const mix = { hotShare: HOT_SHARE };
  return snapshotCondition(circumstances, 'a snapshot held open and a hot account', mix);
}

async function snapshotCondition(
  { place, jobs, usual }: Circumstances,
  title: string,
  mix: Partial<JobMix>,
): Promise<Condition> {
  const subject = await usual();
  const run = (pair: number) => saturatedRun(place.ground, subject, 'dispatch', pair, jobs, mix);
  return {
    title,
    target: null,
    without: run,
    with: (pair) => withSnapshot(subject.client.world, () => run(pair)),
  };
}

async function withSnapshot<T>({ servers }: World, work: () => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: servers.postgresAdminUrl });
  await client.connect();
  try {
    await client.query('begin isolation level repeatable read');
    // The snapshot is taken by the first statement.
    await client.query('select 1');
    return await work();
  } finally {
    await client.end();
  }
}
