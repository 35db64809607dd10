import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Client } from 'pg';
import { newUuidV7 } from '../../src/ids.ts';
import { Accounts } from '../../src/ledger/accounts.ts';
import { CreditLocksPg } from '../../src/ledger/credit-locks.ts';
import { SettlementsPg } from '../../src/ledger/settlements.ts';
import type { LockRequest } from '../../src/ledger/types.ts';
import { Models } from '../../src/network/models.ts';
import { Database } from '../../src/postgres/database.ts';
import { migrate } from '../../src/postgres/migrate.ts';
import { databaseOptions, ledgerConfig, quietLog } from '../../test/support/ledger.ts';
import { settleRequestOf } from '../world/lock-requests.ts';

/**
 * What does one job cost PostgreSQL and us in `lock_batch` and `settle_batch`, and how many bytes does it leave?
 *
 * Load: one connection per role, one batch after the other (closed loop), 100 accounts and 50 models used evenly. Broker,
 * workers and traces are left out. `wall` is the whole call as the dispatcher waits for it, commit included, median of the
 * batches; `backend` and `node` are CPU time, which other work on the machine does not stretch (Linux, local server).
 * The first 20 batches are not counted. Vacuum runs every 10 batches, in place of autovacuum.
 *
 * Usage: TOLLGATE_POSTGRES_ADMIN_URL=… node bench/suites/ledger-statements.ts [batches] [jobs per batch]
 */
const batches = Number(process.argv[2] ?? 100);
const jobsPerBatch = Number(process.argv[3] ?? 256);
const WARM_UP_BATCHES = 20;
/** Of each result. */
const TOKENS = { inputTokens: 400, outputTokens: 200 };
const serverUrl = process.env['TOLLGATE_POSTGRES_ADMIN_URL'];
if (!serverUrl) throw new Error('TOLLGATE_POSTGRES_ADMIN_URL is not set');

const server = new Client({ connectionString: serverUrl });
const name = `tg_bench_${process.pid}`;
const url = Object.assign(new URL(serverUrl), { pathname: `/${name}` }).href;

async function run(adminUrl: string): Promise<void> {
  const admin = new Database(databaseOptions(adminUrl, null), quietLog);
  const dispatcher = new Database(databaseOptions(adminUrl, 'tollgate_dispatcher', 1), quietLog);
  const settler = new Database(databaseOptions(adminUrl, 'tollgate_settler', 1), quietLog);
  const locks = new CreditLocksPg(ledgerConfig, quietLog, dispatcher);
  const settlements = new SettlementsPg(quietLog, settler);
  const ids = await plant(admin);
  const vacuum = new Client({ connectionString: adminUrl });
  await vacuum.connect();

  const lockCost = new Cost('lock_batch');
  const settleCost = new Cost('settle_batch');
  for (let n = -WARM_UP_BATCHES; n < batches; n++) {
    if (n === 0) await Promise.all([lockCost.begin(), settleCost.begin()]);
    const batch = Array.from({ length: jobsPerBatch }, (_, i) => lockRequest(ids, i));
    const results = batch.map((request) => settleRequestOf(request, TOKENS));
    if (n % 10 === 0) await vacuum.query('vacuum jobs.jobs');
    await lockCost.measure(() => locks.lockBatch(batch));
    await settleCost.measure(() => settlements.settleBatch(results));
  }
  lockCost.report();
  settleCost.report();
  await reportBytes((batches + WARM_UP_BATCHES) * jobsPerBatch);
  await vacuum.end();
  await Promise.all([admin.close(), dispatcher.close(), settler.close()]);
}

/** CPU and wall time of one statement, added up over its batches. */
class Cost {
  readonly #statement: string;
  #wallMs: number[] = [];
  #nodeUs = 0;
  #pid = 0;
  #backendNs = 0;

  constructor(statement: string) {
    this.#statement = statement;
  }

  /** Forgets what was measured and finds the backend that runs the statement. */
  async begin(): Promise<void> {
    const { rows } = await server.query<{ pid: number }>(
      'select pid from pg_stat_activity where datname = $1 and query like $2',
      [name, `%.${this.#statement}(%`],
    );
    this.#pid = rows[0]?.pid ?? 0;
    this.#backendNs = this.#cpuNs();
    this.#wallMs = [];
    this.#nodeUs = 0;
  }

  async measure(call: () => Promise<unknown>): Promise<void> {
    const cpu = process.cpuUsage();
    const start = performance.now();
    await call();
    this.#wallMs.push(performance.now() - start);
    const { user, system } = process.cpuUsage(cpu);
    this.#nodeUs += user + system;
  }

  report(): void {
    const jobs = this.#wallMs.length * jobsPerBatch;
    const sorted = this.#wallMs.toSorted((a, b) => a - b);
    const wallUs = ((sorted[Math.floor(sorted.length / 2)] ?? 0) * 1_000) / jobsPerBatch;
    const backendUs = (this.#cpuNs() - this.#backendNs) / 1_000 / jobs;
    print(
      `${this.#statement}: µs per job: wall ${wallUs.toFixed(1)}, backend ${backendUs.toFixed(1)}, node ${(this.#nodeUs / jobs).toFixed(1)} (${this.#wallMs.length} × ${jobsPerBatch})`,
    );
  }

  /** First field of schedstat: nanoseconds on a CPU. */
  #cpuNs(): number {
    try {
      return Number(readFileSync(`/proc/${this.#pid}/schedstat`, 'utf8').split(' ')[0]);
    } catch {
      return Number.NaN;
    }
  }
}

interface Planted {
  readonly accountIds: readonly number[];
  readonly versionIds: readonly number[];
}

async function plant(admin: Database): Promise<Planted> {
  const accounts = new Accounts(admin);
  const models = new Models(admin);
  const accountIds: number[] = [];
  const versionIds: number[] = [];
  await accounts.addPublisher('bench');
  for (let i = 0; i < 100; i++) {
    accountIds.push(await accounts.create(`account-${i}`));
    await accounts.addNamespace(`account-${i}/prod`);
    await accounts.topUp(newUuidV7(), `account-${i}`, 1_000_000_000_000n);
  }
  for (let i = 0; i < 50; i++) {
    const prices = { inputPriceMicro: 1_000_000n, outputPriceMicro: 2_000_000n };
    const limits = { inputTokensMax: 4_096, outputTokensMax: 4_096, timeoutMsMax: 600_000 };
    versionIds.push(await models.add({ name: `model-${i}`, ...prices, ...limits }));
  }
  return { accountIds, versionIds };
}

function lockRequest({ accountIds, versionIds }: Planted, i: number): LockRequest {
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

/** Heap and index bytes per job as the run left them: one dead row per job since the last vacuum. */
async function reportBytes(jobs: number): Promise<void> {
  const client = new Client({ connectionString: url });
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
    print(
      `${table}: bytes per job: heap ${perJob(row.heap)}, indexes ${perJob(row.indexes)}; one row ${row.row.toFixed(0)}`,
    );
  }
  await client.end();
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

await server.connect();
await server.query(`create database ${name} template template0`);
try {
  await migrate({ url }, quietLog);
  await run(url);
} finally {
  await server.query(`drop database ${name} with (force)`);
  await server.end();
}
