import { queueDepth } from '../broker/queue-depth.ts';
import type { Config } from '../config-schema.ts';
import { QUEUE } from '../contracts/names.ts';
import type { Log } from '../ops/types.ts';
import { Database } from '../postgres/database.ts';
import { actingAs, loginAs } from '../postgres/role-url.ts';
import { MongoConnection } from '../traces/mongo.ts';
import { MongoTraceStore } from '../traces/store.ts';
import { FleetRedis } from '../workers/redis.ts';
import { RedisFleetRegistry } from '../workers/registry.ts';
import { RedisSlotLeases } from '../workers/slot-leases.ts';
import type { AuditBounds, AuditStores } from './types.ts';

/** The role that the audit reads with: it may select from every table and change none. */
const AUDITOR = 'tollgate_auditor';

/** Rows of one page. A page of jobs is one statement of about 500 times six index probes, and one question to MongoDB. */
const PAGE_ROWS = 500;

/** Sweeps that may pass before what is overdue counts as forgotten. */
const SWEEPS_AWAITED = 10;

/**
 * Opens what `runAudit` reads; `close` ends it. Logs in to PostgreSQL as tollgate_auditor (`servers.postgresAuditorUrl`, else
 * the administrator acting as it, else `servers.postgresUrl` with that user name). Throws StoreError when Redis is away; the
 * others fail when they are asked.
 *
 *     const audit = await openAuditStores(config, log);
 *     const options = { bounds: auditBounds(config), workerLogs: ['worker-1.log'], clockSkewMs: 0 };
 *     const report = await runAudit(audit.stores, options).finally(audit.close);
 */
export async function openAuditStores(
  config: Config,
  log: Log,
): Promise<{
  readonly stores: AuditStores;
  readonly database: Database;
  readonly close: () => Promise<void>;
}> {
  const { servers, ledger, fleet } = config;
  const database = new Database({ ...ledger, ...servers, connectionsMax: 1, url: auditorUrl(servers) }, log);
  const redis = new FleetRedis(servers, fleet, log);
  const mongo = new MongoConnection(config, log);
  const registry = new RedisFleetRegistry(redis, fleet, () => false);
  const slots = new RedisSlotLeases(redis);
  const close = async (): Promise<void> => {
    await Promise.all([database.close(), redis.stop(), mongo.stop()]);
  };
  try {
    await redis.start();
  } catch (error) {
    await close();
    throw error;
  }
  const stores: AuditStores = {
    database,
    fleet: { occupancy: () => registry.occupancy(), leases: () => slots.leases() },
    traces: new MongoTraceStore(mongo),
    spool: {
      depth: () =>
        queueDepth({ url: servers.amqpUrl, connectTimeoutMs: servers.connectTimeoutMs }, QUEUE.spool),
    },
  };
  return { stores, database, close };
}

/** How long a running system may take for what, by its own settings. */
export function auditBounds({ line, sweeps, fleet, ledger }: Config): AuditBounds {
  return {
    pageRows: PAGE_ROWS,
    // A lease that a worker still names is extended within a heartbeat: only after that it is known to be held.
    recheckMs: fleet.heartbeatMs + 1_000,
    sweepGraceMs: SWEEPS_AWAITED * sweeps.everyMs + line.replyTryMsMax + ledger.statementMsMax,
    // After the commit a job still passes two stages, dispatch and trace.
    traceGraceMs: 2 * line.stageRetryMs,
    leaseTtlMs: fleet.leaseTtlMs,
    // No lease ends before somebody has watched the fleet for as long as a worker may be silent.
    leaseGraceMs: fleet.lostAfterMs + SWEEPS_AWAITED * sweeps.everyMs,
  };
}

function auditorUrl(servers: Config['servers']): string {
  if (servers.postgresAuditorUrl !== null) return servers.postgresAuditorUrl;
  if (servers.postgresAdminUrl !== null) return actingAs(servers.postgresAdminUrl, AUDITOR);
  return loginAs(servers.postgresUrl, AUDITOR);
}
