import { createHash, randomBytes } from 'node:crypto';
import { Client, type QueryResultRow } from 'pg';
import type { Config } from '../../src/config-schema.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { Accounts } from '../../src/ledger/accounts.ts';
import { AttemptsPg } from '../../src/ledger/attempts.ts';
import { CancellationsPg } from '../../src/ledger/cancellations.ts';
import { CreditLocksPg } from '../../src/ledger/credit-locks.ts';
import { SettlementsPg } from '../../src/ledger/settlements.ts';
import { SweepsPg } from '../../src/ledger/sweeps.ts';
import type {
  EndUnlockedRequest,
  GiveUpRequest,
  LockRequest,
  SettleRequest,
} from '../../src/ledger/types.ts';
import type { Log } from '../../src/ops/types.ts';
import { Database, type DatabaseOptions } from '../../src/postgres/database.ts';
import { migrate } from '../../src/postgres/migrate.ts';
import { isolatedServers, type Teardown } from './servers.ts';

/** A log that keeps nothing. */
export const quietLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => quietLog,
};

/** Bounds of `Config.ledger` at their defaults, with a start window and grace that a test may shorten. */
export const ledgerConfig: Config['ledger'] = {
  connectionsMax: 4,
  statementMsMax: 5_000,
  lockWaitMsMax: 3_000,
  startWindowMs: 20_000,
  deadlineGraceMs: 5_000,
  batchRetriesMax: 5,
  uncountedMax: 20,
};

/** How tests connect: `role` null is the superuser, else its rights alone (by SET ROLE, so no password is needed). */
export function databaseOptions(adminUrl: string, role: string | null, connectionsMax = 4): DatabaseOptions {
  const url = new URL(adminUrl);
  if (role !== null) url.searchParams.set('options', `-c role=${role}`);
  return {
    url: url.href,
    connectionsMax,
    connectTimeoutMs: 5_000,
    reconnectDelayMsMax: 500,
    statementMsMax: ledgerConfig.statementMsMax,
    lockWaitMsMax: ledgerConfig.lockWaitMsMax,
    batchRetriesMax: ledgerConfig.batchRetriesMax,
  };
}

/** What a coordinator's three roles log in with, each with its rights alone. */
export function roleUrls(adminUrl: string) {
  const urlAs = (role: string) => databaseOptions(adminUrl, role).url;
  return {
    postgresUrl: urlAs('tollgate_dispatcher'),
    postgresSettlerUrl: urlAs('tollgate_settler'),
    postgresMaintainerUrl: urlAs('tollgate_maintainer'),
  };
}

/** Ids of what every ledger of the tests begins with. */
export interface Seed {
  readonly account: 'acme';
  readonly accountId: number;
  readonly namespaceId: number;
  readonly publisherId: number;
  readonly model: 'tiny-chat';
  readonly modelVersionId: number;
  readonly node: 'node-1';
}

/** A migrated database of its own with account `acme` (10 credits), namespace, publisher, model and node. */
export interface TestLedger extends Seed {
  /** Superuser on it. */
  readonly adminUrl: string;
  readonly dispatcher: Database;
  readonly settler: Database;
  readonly admin: Database;
  readonly accounts: Accounts;
  readonly locks: CreditLocksPg;
  readonly settlements: SettlementsPg;
  readonly sweeps: SweepsPg;
  readonly attempts: AttemptsPg;
  readonly cancellations: CancellationsPg;
  /** A superuser's statement, for looking and for breaking things. */
  sql<Row extends QueryResultRow>(text: string, params?: readonly unknown[]): Promise<Row[]>;
  /** A valid lock request of a new job: 1,000 input and 1,000 output tokens at 1,000,000 and 2,000,000: 3,000 micro. */
  lockRequest(change?: Partial<LockRequest>): LockRequest;
  /** The result that settles `request`: 500 and 500 tokens, 1,500 micro. */
  settleRequest(request: LockRequest, change?: Partial<SettleRequest>): SettleRequest;
  /** Gives up attempt 1 of `request` for good, as of a lost worker. */
  giveUpRequest(request: LockRequest, change?: Partial<GiveUpRequest>): GiveUpRequest;
}

const SEED_CREDIT_MICRO = 10_000_000n;

/** A fresh, migrated, empty database, dropped when `t` ends; returns the superuser's URL of it. */
export async function migratedDatabase(t: Teardown): Promise<string> {
  const { postgresAdminUrl } = await isolatedServers(t, { postgres: true });
  await migrate({ url: postgresAdminUrl }, quietLog);
  return postgresAdminUrl;
}

/** A fresh database with the seed; its connections close and it is dropped when `t` ends. */
export async function testLedger(t: Teardown, config: Config['ledger'] = ledgerConfig): Promise<TestLedger> {
  const adminUrl = await migratedDatabase(t);
  await plantSeed(adminUrl);
  const admin = new Database(databaseOptions(adminUrl, null), quietLog);
  const dispatcher = new Database(databaseOptions(adminUrl, 'tollgate_dispatcher'), quietLog);
  const settler = new Database(databaseOptions(adminUrl, 'tollgate_settler'), quietLog);
  const raw = new Client({ connectionString: adminUrl });
  raw.on('error', () => undefined);
  await raw.connect();
  t.after(() => Promise.all([admin.close(), dispatcher.close(), settler.close(), raw.end()]));
  const sql: TestLedger['sql'] = async (text, params = []) => (await raw.query(text, [...params])).rows;
  const seed = await readSeed(sql);
  return {
    ...seed,
    adminUrl,
    dispatcher,
    settler,
    admin,
    accounts: new Accounts(admin),
    locks: new CreditLocksPg(config, quietLog, dispatcher),
    settlements: new SettlementsPg(quietLog, settler),
    sweeps: new SweepsPg(dispatcher),
    attempts: new AttemptsPg(config, quietLog, dispatcher),
    cancellations: new CancellationsPg(dispatcher),
    sql,
    lockRequest: (change = {}) => ({ ...aLockRequest(seed), ...change }),
    settleRequest: (request, change = {}) => ({ ...aSettleRequest(request), ...change }),
    giveUpRequest: (request, change = {}) => ({ ...aGiveUpRequest(request), ...change }),
  };
}

function aLockRequest(seed: Seed): LockRequest {
  return {
    jobId: newUuidV7(),
    accountId: seed.accountId,
    namespaceId: seed.namespaceId,
    publisherId: seed.publisherId,
    digest: randomBytes(32),
    kind: 'chat',
    priority: 'interactive',
    replyTo: 'reply.p-acme-app',
    correlationId: null,
    traceparent: null,
    modelVersionId: seed.modelVersionId,
    inputTokensMax: 1_000,
    outputTokensMax: 1_000,
    timeoutMs: 60_000,
    attemptsMax: 3,
    node: seed.node,
    session: 1_700_000_000_000,
  };
}

function aSettleRequest(request: LockRequest): SettleRequest {
  return {
    jobId: request.jobId,
    attempt: 1,
    node: request.node,
    session: request.session,
    status: 'completed',
    inputTokens: 500,
    outputTokens: 500,
    digest: createHash('sha256').update(request.jobId).digest(),
  };
}

function aGiveUpRequest({ jobId, node, session }: LockRequest): GiveUpRequest {
  return {
    jobId,
    attempt: 1,
    node,
    session,
    outcome: 'lost',
    class: 'node',
    code: 'TG_WORKER_LOST',
    isCounted: true,
    delayMs: null,
    digest: null,
    isOwed: false,
  };
}

/** Asks to remember that a job will never be locked: refused for an unknown model, unless changed. */
export function endUnlockedRequest(
  request: LockRequest,
  change: Partial<EndUnlockedRequest> = {},
): EndUnlockedRequest {
  return {
    jobId: request.jobId,
    accountId: request.accountId,
    namespaceId: request.namespaceId,
    publisherId: request.publisherId,
    digest: request.digest,
    kind: request.kind,
    priority: request.priority,
    replyTo: request.replyTo,
    correlationId: request.correlationId,
    traceparent: request.traceparent,
    state: 'refused',
    code: 'TG_MODEL_UNKNOWN',
    ...change,
  };
}

async function plantSeed(adminUrl: string): Promise<void> {
  const db = new Database(databaseOptions(adminUrl, null, 1), quietLog);
  try {
    const accounts = new Accounts(db);
    await accounts.create('acme');
    await accounts.addNamespace('acme/prod');
    await accounts.addPublisher('acme-app');
    await accounts.entitle('acme-app', 'acme');
    await accounts.topUp(newUuidV7(), 'acme', SEED_CREDIT_MICRO);
    await db.query('add_model', ['tiny-chat', 1_000_000, 2_000_000, 4_096, 4_096, 600_000]);
    await db.query('register_node', ['node-1', 'nodes-inc', randomBytes(32), 'active', ['tiny-chat']]);
  } finally {
    await db.close();
  }
}

async function readSeed(sql: TestLedger['sql']): Promise<Seed> {
  const [row] = await sql<{ account: number; namespace: number; publisher: number; version: number }>(
    `select (select id from identity.accounts) as account, (select id from identity.namespaces) as namespace,
            (select id from identity.publishers) as publisher, (select id from network.model_versions) as version`,
  );
  if (row === undefined) throw new Error('the seed is not there');
  return {
    account: 'acme',
    accountId: row.account,
    namespaceId: row.namespace,
    publisherId: row.publisher,
    model: 'tiny-chat',
    modelVersionId: row.version,
    node: 'node-1',
  };
}
