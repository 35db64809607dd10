import { join } from 'node:path';
import { Redis } from 'ioredis';
import { type Db, MongoClient } from 'mongodb';
import type { AuditReport } from '../../src/audit/types.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { cellBase, cellOf } from '../../src/workers/keys.ts';
import type { HandWorker } from '../support/hand-worker.ts';
import { databaseOptions } from '../support/ledger.ts';
import { runCli } from '../support/run-cli.ts';
import type { Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/** Two, so that a job could have two leases. */
const CELLS = 2;
/** Long enough that the open job outlives the test. */
const TIMEOUT_MS_MAX = 3_600_000;

/** A Tollgate with a job of every end, for the audit to look at. */
export interface Scene {
  readonly world: World;
  readonly redis: Redis;
  readonly mongo: Db;
  /** The log of the worker that ran `succeeded`. */
  readonly workLog: string;
  readonly jobs: {
    /** Ended well, by a real worker that kept a log. */
    readonly succeeded: string;
    /** Ended by an error result of a worker without a log. */
    readonly failed: string;
    /** Its worker fell silent. */
    readonly lost: string;
    /** Its account had too little. */
    readonly refused: string;
    /** Nobody served its model in time. */
    readonly expired: string;
    /** In the hands of `holder`, which never answers. */
    readonly open: string;
  };
  readonly holder: HandWorker;
  /** Keys of the cell of `holder`, and of the other cell. */
  readonly cell: string;
  readonly otherCell: string;
  /** `--set` options of every setting of this world, the auditor's login too. */
  readonly settings: readonly string[];
  /** Runs `tollgate repair --dry-run --json`. */
  repair(): Promise<{ readonly repairs: readonly Record<string, unknown>[] }>;
  /** Runs `tollgate audit --json` and returns its exit status and report. */
  audit(...args: string[]): Promise<{ status: number | null; report: AuditReport }>;
}

/** Node of `holder`. */
export const HOLDER = 'n2';

/** Builds the scene; the coordinator still runs. */
export async function scene(t: Teardown & { testdir(): string }): Promise<Scene> {
  const made = await world(t, { workers: 0, settings: { 'fleet.cells': CELLS } });
  const workLog = join(t.testdir(), 'n1.jsonl');
  for (const model of ['held', 'left', 'orphan'])
    await made.addModel(model, { timeoutMsMax: TIMEOUT_MS_MAX });
  await made.addAccount('poor', ['web'], 1n);
  await made.addNode('n1');
  await made.addNode(HOLDER, ['held']);
  await made.addNode('n3', ['left']);
  await made.startWorker('n1', 4, { logFile: workLog });
  const holder = await made.startHandWorker(HOLDER, 4, ['held']);
  const leaver = await made.startHandWorker('n3', 4, ['left']);
  const redis = new Redis(made.servers.redisUrl);
  const mongo = new MongoClient(made.servers.mongoUrl);
  t.after(() => redis.disconnect());
  t.after(() => mongo.close());

  const send = async (change: Partial<JobMessage>): Promise<string> => {
    const job = made.job(change);
    await made.send(job);
    return job.id;
  };
  const limits = { ...made.job().limits, timeout_ms: TIMEOUT_MS_MAX };
  const lost = await send({ model: 'left' });
  await leaver.dispatched(lost);
  leaver.fallSilent();
  const succeeded = await send({});
  const failed = await send({ model: 'held' });
  const error = { code: 'model_error', message: 'no' } as const;
  await holder.finish(await holder.dispatched(failed), { status: 'failed', output: null, error });
  const open = await send({ model: 'held', limits });
  const refused = await send({ account: 'poor', namespace: 'poor/prod' });
  const expired = await send({ model: 'orphan', limits: { ...limits, wait_ms: 1_000 } });
  await holder.dispatched(open);
  for (const id of [succeeded, failed, lost, refused, expired]) await made.reply(id);
  await until(async () => (await owed(made)) === 0, 'no reply to be owed');

  const cellNumber = cellOf(HOLDER, CELLS);
  const flags = { ...made.flags, 'servers.postgresAuditorUrl': auditorUrl(made) };
  const settings = Object.entries(flags).flatMap(([path, value]) => ['--set', `${path}=${value}`]);
  return {
    world: made,
    redis,
    mongo: mongo.db(),
    workLog,
    jobs: { succeeded, failed, lost, refused, expired, open },
    holder,
    cell: cellBase(made.servers.keyPrefix, cellNumber),
    otherCell: cellBase(made.servers.keyPrefix, 1 - cellNumber),
    settings,
    repair: async () => {
      const { stdout, stderr } = await runCli(['repair', '--dry-run', ...settings, '--json']);
      if (stdout === '') throw new Error(`no repairs: ${stderr}`);
      return JSON.parse(stdout);
    },
    audit: async (...args) => {
      const { status, stdout, stderr } = await runCli(['audit', ...settings, ...args, '--json']);
      if (status !== 0 && status !== 1) throw new Error(`no report: ${stderr}`);
      const report: AuditReport = JSON.parse(stdout);
      return { status, report };
    },
  };
}

/** PostgreSQL with the rights of the auditor alone. */
export function auditorUrl(made: World): string {
  return databaseOptions(made.servers.postgresAdminUrl, 'tollgate_auditor').url;
}

async function owed(made: World): Promise<number> {
  const rows = await made.books.sql('select from jobs.jobs where reply_owed');
  return rows.length;
}

/** The ids of the invariants that are broken. */
export function brokenIn(report: AuditReport): string[] {
  return report.invariants.filter(({ verdict }) => verdict === 'broken').map(({ id }) => id);
}

/** An id that nobody has. */
export const nobody = (): string => newUuidV7();
