import { createHash, randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { newUuidV7 } from '../src/ids.ts';
import { Accounts } from '../src/ledger/accounts.ts';
import { CreditLocksPg } from '../src/ledger/credit-locks.ts';
import { SettlementsPg } from '../src/ledger/settlements.ts';
import type { LockRequest } from '../src/ledger/types.ts';
import { Models } from '../src/network/models.ts';
import { Database } from '../src/postgres/database.ts';
import { migrate } from '../src/postgres/migrate.ts';
import { databaseOptions, ledgerConfig, quietLog } from '../test/support/ledger.ts';

/**
 * What does one job cost PostgreSQL and us in `lock_batch` and `settle_batch`, and how many bytes does it leave?
 *
 * Load: one connection per role, one batch after the other (closed loop), 100 accounts spread evenly, 50 distinct models;
 * bodies, broker and workers are left out. Times are of the whole call as the dispatcher waits for it, commit included.
 * Usage: TOLLGATE_POSTGRES_ADMIN_URL=… node bench/ledger-statements.ts [batches] [jobs per batch]
 */
const batches = Number(process.argv[2] ?? 200);
const jobsPerBatch = Number(process.argv[3] ?? 256);
const serverUrl = process.env['TOLLGATE_POSTGRES_ADMIN_URL'];
if (!serverUrl) throw new Error('TOLLGATE_POSTGRES_ADMIN_URL is not set');

const server = new Client({ connectionString: serverUrl });
await server.connect();
const name = `tg_bench_${process.pid}`;
await server.query(`create database ${name} template template0`);
const url = Object.assign(new URL(serverUrl), { pathname: `/${name}` }).href;
try {
  await migrate({ url }, quietLog);
  await run(url);
} finally {
  await server.query(`drop database ${name} with (force)`);
  await server.end();
}

async function run(adminUrl: string): Promise<void> {
  const admin = new Database(databaseOptions(adminUrl, null), quietLog);
  const dispatcher = new Database(databaseOptions(adminUrl, 'tollgate_dispatcher', 1), quietLog);
  const settler = new Database(databaseOptions(adminUrl, 'tollgate_settler', 1), quietLog);
  const accountIds: number[] = [];
  const accounts = new Accounts(admin);
  for (let i = 0; i < 100; i++) {
    accountIds.push(await accounts.create(`account-${i}`));
    await accounts.addNamespace(`account-${i}/prod`);
    await accounts.topUp(newUuidV7(), `account-${i}`, 1_000_000_000_000n);
  }
  await accounts.addPublisher('bench');
  const versionIds: number[] = [];
  for (let i = 0; i < 50; i++) {
    const prices = { inputPriceMicro: 1_000_000n, outputPriceMicro: 2_000_000n };
    const limits = { inputTokensMax: 4_096, outputTokensMax: 4_096, timeoutMsMax: 600_000 };
    versionIds.push(await new Models(admin).add({ name: `model-${i}`, ...prices, ...limits }));
  }
  const locks = new CreditLocksPg(ledgerConfig, quietLog, dispatcher);
  const settlements = new SettlementsPg(quietLog, settler);

  const lockUs: number[] = [];
  const settleUs: number[] = [];
  for (let n = 0; n < batches; n++) {
    const batch = Array.from({ length: jobsPerBatch }, (_, i) =>
      request(accountIds, versionIds, n * jobsPerBatch + i),
    );
    lockUs.push(await microsecondsPerJob(() => locks.lockBatch(batch)));
    const results = batch.map((job) => ({
      jobId: job.jobId,
      attempt: 1,
      node: job.node,
      session: job.session,
      status: 'completed' as const,
      inputTokens: 400,
      outputTokens: 200,
      digest: createHash('sha256').update(job.jobId).digest(),
    }));
    settleUs.push(await microsecondsPerJob(() => settlements.settleBatch(results)));
  }
  report('lock', lockUs);
  report('settle', settleUs);
  await reportBytes(adminUrl, batches * jobsPerBatch);
  await Promise.all([admin.close(), dispatcher.close(), settler.close()]);
}

function request(accountIds: readonly number[], versionIds: readonly number[], i: number): LockRequest {
  return {
    jobId: newUuidV7(),
    accountId: accountIds[i % accountIds.length] ?? 0,
    namespaceId: (i % accountIds.length) + 1,
    publisherId: 1,
    digest: randomBytes(32),
    kind: 'chat',
    priority: 'interactive',
    replyTo: 'reply.p-bench.7f3a',
    correlationId: newUuidV7(),
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    modelVersionId: versionIds[i % versionIds.length] ?? 0,
    inputTokensMax: 900,
    outputTokensMax: 256,
    timeoutMs: 60_000,
    attemptsMax: 3,
    node: `node-${i % 64}`,
    session: 1_700_000_000_000,
  };
}

async function microsecondsPerJob(call: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await call();
  return ((performance.now() - start) * 1_000) / jobsPerBatch;
}

function report(what: string, values: readonly number[]): void {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => (sorted[Math.floor((sorted.length - 1) * share)] ?? 0).toFixed(1);
  process.stdout.write(
    `${what}: µs per job p50 ${at(0.5)} p90 ${at(0.9)} max ${at(1)} (${batches} × ${jobsPerBatch})\n`,
  );
}

/** Heap and index bytes per job: as the run left them, and after a vacuum, from the rows that stay. */
async function reportBytes(adminUrl: string, jobs: number): Promise<void> {
  const client = new Client({ connectionString: adminUrl });
  await client.connect();
  for (const table of ['jobs.jobs', 'credits.transfers']) {
    const { rows } = await client.query<{ heap: number; indexes: number; row: number }>(
      `select sum(pg_table_size(inhrelid))::float8 as heap, sum(pg_indexes_size(inhrelid))::float8 as indexes,
              (select avg(pg_column_size(r.*))::float8 from ${table} r) as row
         from pg_inherits where inhparent = '${table}'::regclass`,
    );
    const [row] = rows;
    if (row === undefined) continue;
    const perJob = (bytes: number) => (bytes / jobs).toFixed(0);
    process.stdout.write(
      `${table}: heap ${perJob(row.heap)} + indexes ${perJob(row.indexes)} bytes per job, row ${row.row.toFixed(0)}\n`,
    );
  }
  await client.end();
}
