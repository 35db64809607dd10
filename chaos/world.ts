import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Management } from '../src/broker/management.ts';
import { nodePermissions, publisherPermissions } from '../src/broker/permissions.ts';
import { loadConfig } from '../src/config.ts';
import type { Config } from '../src/config-schema.ts';
import { nodeUser, publisherUser } from '../src/contracts/names.ts';
import { newUuidV7 } from '../src/ids.ts';
import { Accounts } from '../src/ledger/accounts.ts';
import { Models } from '../src/network/models.ts';
import { Nodes } from '../src/network/nodes.ts';
import { createLog } from '../src/ops/log.ts';
import { Database } from '../src/postgres/database.ts';
import { migrate } from '../src/postgres/migrate.ts';
import type { StackUrls } from '../src/stack/types.ts';
import { ensureCollections } from '../src/traces/collections.ts';
import { generateNodeKey, rawPublicKey } from '../src/workers/agent/keys.ts';
import type { FleetNode } from './fleet.ts';
import type { Links } from './links.ts';
import { VICES, type Vice } from './rogue.ts';

/** Who pays. `isPoor`: a handful of jobs and its credit is gone. */
export interface ChaosAccount {
  readonly name: string;
  readonly creditMicro: bigint;
  readonly isPoor: boolean;
}

/** The publisher of all jobs. */
export const PUBLISHER = 'load';

/** Models, all alike: the pools, not the answers, are what differs. */
export const MODELS = ['tiny', 'small', 'wide'] as const;

/** 1 micro-credit for a token in, 2 for one out. */
const PRICES = { inputPriceMicro: 1_000_000n, outputPriceMicro: 2_000_000n };
const LIMITS = { inputTokensMax: 4_000, outputTokensMax: 1_000, timeoutMsMax: 60_000 };

const ACCOUNTS = 60;
const POOR = 5;
const RICH_MICRO = 1_000_000_000n;
const POOR_MICRO = 1_500n;

/** Processes of the fleet: one may be gone while the other serves. */
const FLEETS = 2;
const HONEST_PER_FLEET = 4;
const HONEST_SLOTS = 6;
/** More than the others have, so that they are asked first, and for one model only, so that they are asked for a part of the jobs. */
const ROGUE_SLOTS = 8;
const ROGUE_MODELS = ['wide'] as const;

/**
 * Settings besides the servers. A worker is lost, a lease runs out and a job is overdue within seconds, so that a run of a minute
 * sees what a service sees in a day; the patience with servers is the default one.
 */
export const SETTINGS: Readonly<Record<string, string>> = {
  'http.port': '0',
  'fleet.heartbeatMs': '1000',
  'fleet.lostAfterMs': '5000',
  'fleet.leaseTtlMs': '12000',
  // Below the start window, so that an unconfirmed dispatch is tried again.
  'broker.confirmMsMax': '4000',
  'ledger.startWindowMs': '10000',
  'ledger.deadlineGraceMs': '1000',
  'sweeps.everyMs': '500',
  'line.suspectMs': '20000',
};

/** Everything that is made before the first fault. */
export interface ChaosWorld {
  readonly config: Config;
  /** What a coordinator is started with: it reaches every server through its link, and has no administrator's rights. */
  readonly flags: Readonly<Record<string, string>>;
  readonly accounts: readonly ChaosAccount[];
  readonly creditedMicro: bigint;
  readonly publisherUrl: string;
  /** Nodes by the process that runs them. */
  readonly fleets: readonly (readonly FleetNode[])[];
  readonly workerLogs: readonly string[];
}

/** Makes schema, records and RabbitMQ users on servers that run. `folder` gets the workers' logs. */
export async function makeWorld(urls: StackUrls, links: Links, folder: string): Promise<ChaosWorld> {
  const rolePassword = randomBytes(16).toString('hex');
  const digestKey = randomBytes(32).toString('hex');
  const dispatcher = new URL(urls.postgresAdmin);
  dispatcher.username = 'tollgate_dispatcher';
  dispatcher.password = rolePassword;
  const common = { ...SETTINGS, 'secrets.digestKey': digestKey };
  const direct = {
    'servers.postgresUrl': dispatcher.href,
    'servers.redisUrl': urls.redis,
    'servers.amqpUrl': urls.amqp,
    'servers.mongoUrl': urls.mongo,
  };
  const admin = { 'servers.postgresAdminUrl': urls.postgresAdmin, 'servers.amqpAdminUrl': urls.amqpAdmin };
  const config = loadConfig({ flags: { ...common, ...direct, ...admin }, env: {} });
  const flags = {
    ...common,
    'servers.postgresUrl': links.postgres.through(dispatcher.href),
    'servers.redisUrl': links.redis.through(urls.redis),
    'servers.amqpUrl': links.rabbitmq.through(urls.amqp),
    'servers.mongoUrl': links.mongodb.through(urls.mongo),
  };
  const quiet = createLog({ level: 'silent' });
  await Promise.all([
    migrate({ url: urls.postgresAdmin, rolePassword }, quiet),
    ensureCollections(config.servers),
  ]);
  const db = new Database({ ...config.ledger, ...config.servers, url: urls.postgresAdmin }, quiet);
  try {
    const management = new Management({ url: urls.amqpAdmin, vhost: '/', requestMsMax: 10_000 });
    const accounts = accountsOf();
    await makeRecords(db, accounts);
    const fleets = await makeNodes(db, management, links.fleet.through(urls.amqp), folder);
    const publisherUrl = await makeUser(management, publisherUser(PUBLISHER), urls.amqp);
    return {
      config,
      flags,
      accounts,
      creditedMicro: accounts.reduce((sum, { creditMicro }) => sum + creditMicro, 0n),
      publisherUrl,
      fleets,
      workerLogs: fleets.flat().map(({ logFile }) => logFile),
    };
  } finally {
    await db.close();
  }
}

function accountsOf(): ChaosAccount[] {
  return Array.from({ length: ACCOUNTS }, (_, i) => {
    const isPoor = i >= ACCOUNTS - POOR;
    return { name: `account-${i}`, creditMicro: isPoor ? POOR_MICRO : RICH_MICRO, isPoor };
  });
}

async function makeRecords(db: Database, made: readonly ChaosAccount[]): Promise<void> {
  const accounts = new Accounts(db);
  const models = new Models(db);
  await accounts.addPublisher(PUBLISHER);
  for (const { name, creditMicro } of made) {
    await accounts.create(name);
    await accounts.addNamespace(`${name}/prod`);
    await accounts.entitle(PUBLISHER, name);
    await accounts.topUp(newUuidV7(), name, creditMicro);
  }
  for (const name of MODELS) await models.add({ name, ...PRICES, ...LIMITS });
}

/** Honest nodes in each process of the fleet, and the vices spread over both. */
async function makeNodes(
  db: Database,
  management: Management,
  amqpUrl: string,
  folder: string,
): Promise<FleetNode[][]> {
  mkdirSync(join(folder, 'workers'), { recursive: true, mode: 0o700 });
  const nodes = new Nodes(db);
  const make = async (id: string, slots: number, vice: Vice | null): Promise<FleetNode> => {
    const key = generateNodeKey();
    const models = vice === null ? MODELS : ROGUE_MODELS;
    await nodes.register({
      id,
      owner: 'somebody',
      publicKey: rawPublicKey(key),
      models: [...models],
      lifecycle: vice === null ? 'active' : 'probation',
    });
    const url = await makeUser(management, nodeUser(id), amqpUrl);
    const privateKey = key.export({ type: 'pkcs8', format: 'pem' }).toString();
    return {
      id,
      amqpUrl: url,
      privateKey,
      slots,
      models,
      vice,
      logFile: join(folder, 'workers', `${id}.jsonl`),
    };
  };
  const fleets: FleetNode[][] = [];
  for (let f = 0; f < FLEETS; f++) {
    const fleet: FleetNode[] = [];
    for (let n = 0; n < HONEST_PER_FLEET; n++) fleet.push(await make(`good-${f}-${n}`, HONEST_SLOTS, null));
    for (const [v, vice] of VICES.entries())
      if (v % FLEETS === f) fleet.push(await make(`rogue-${vice.replace('_', '-')}`, ROGUE_SLOTS, vice));
    fleets.push(fleet);
  }
  return fleets;
}

/** A RabbitMQ user with the rights its name says; returns its login at `amqpUrl`. */
async function makeUser(management: Management, user: string, amqpUrl: string): Promise<string> {
  const password = randomBytes(12).toString('hex');
  const prefix = nodeUser('');
  const permissions = user.startsWith(prefix)
    ? nodePermissions(user.slice(prefix.length))
    : publisherPermissions(user);
  await management.createUser(user, password, permissions);
  const url = new URL(amqpUrl);
  url.username = user;
  url.password = password;
  return url.href;
}
