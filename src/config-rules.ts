import type { ConfigPath } from './config-keys.ts';
import type { Config } from './config-schema.ts';

/** What a server's URL must look like; shown instead of the URL, which may hold a password. */
const URL_FORMS: Readonly<Partial<Record<ConfigPath, { pattern: RegExp; form: string }>>> = {
  'servers.postgresUrl': {
    pattern: /^postgres(ql)?:\/\/./,
    form: 'postgres://user:password@host:port/database',
  },
  'servers.postgresSettlerUrl': {
    pattern: /^postgres(ql)?:\/\/./,
    form: 'postgres://user:password@host:port/database',
  },
  'servers.postgresMaintainerUrl': {
    pattern: /^postgres(ql)?:\/\/./,
    form: 'postgres://user:password@host:port/database',
  },
  'servers.postgresAuditorUrl': {
    pattern: /^postgres(ql)?:\/\/./,
    form: 'postgres://user:password@host:port/database',
  },
  'servers.postgresAdminUrl': {
    pattern: /^postgres(ql)?:\/\/./,
    form: 'postgres://user:password@host:port/database',
  },
  'servers.redisUrl': { pattern: /^rediss?:\/\/./, form: 'redis://host:port/number' },
  'servers.amqpUrl': { pattern: /^amqps?:\/\/./, form: 'amqp://user:password@host:port/vhost' },
  'servers.amqpClientUrl': { pattern: /^amqps?:\/\/./, form: 'amqp://user:password@host:port/vhost' },
  'servers.amqpAdminUrl': { pattern: /^https?:\/\/./, form: 'http://user:password@host:port' },
  'servers.mongoUrl': {
    pattern: /^mongodb(\+srv)?:\/\/[^/]+\/[^/?]+/,
    form: 'mongodb://user:password@host:port/database',
  },
};

/** What a server's URL must look like, or null for a setting that is no URL. */
export function urlForm(path: ConfigPath): string | null {
  return URL_FORMS[path]?.form ?? null;
}

/** The fault of a URL, or null. A replica set's URL names several hosts, so only the others must parse as one URL. */
export function urlFault(path: ConfigPath, url: string): string | null {
  const expected = URL_FORMS[path];
  if (expected === undefined) return null;
  const isWhole = url.startsWith('mongodb') || URL.canParse(url);
  return isWhole && expected.pattern.test(url) ? null : `must look like ${expected.form}`;
}

/** A relation between settings; `holds` is false where the configuration contradicts itself. */
interface Rule {
  readonly paths: readonly ConfigPath[];
  readonly text: string;
  readonly holds: (config: Config) => boolean;
}

const MS_PER_S = 1_000;

const RULES: readonly Rule[] = [
  {
    paths: ['line.prefetchMin', 'line.prefetchMax'],
    text: 'prefetchMin must not be above prefetchMax',
    holds: ({ line }) => line.prefetchMin <= line.prefetchMax,
  },
  {
    paths: ['line.pauseAfterMs', 'line.holdMsMax'],
    text: 'pauseAfterMs must not be above holdMsMax, or deliveries are held longer than allowed',
    holds: ({ line }) => line.pauseAfterMs <= line.holdMsMax,
  },
  {
    paths: ['fleet.heartbeatMs', 'fleet.lostAfterMs'],
    text: 'lostAfterMs must be at least twice heartbeatMs, or one late heartbeat loses a worker',
    holds: ({ fleet }) => fleet.lostAfterMs >= 2 * fleet.heartbeatMs,
  },
  {
    paths: ['fleet.heartbeatMs', 'fleet.leaseTtlMs'],
    text: 'leaseTtlMs must be above heartbeatMs, or leases end between two heartbeats',
    holds: ({ fleet }) => fleet.leaseTtlMs > fleet.heartbeatMs,
  },
  {
    paths: ['ledger.startWindowMs', 'fleet.leaseTtlMs'],
    text: 'leaseTtlMs must be above startWindowMs and heartbeatMs together, or a lease ends before its first heartbeat',
    holds: ({ fleet, ledger }) => fleet.leaseTtlMs > ledger.startWindowMs + fleet.heartbeatMs,
  },
  {
    paths: ['sweeps.everyMs', 'fleet.lostAfterMs'],
    text: 'everyMs must be below a third of lostAfterMs, or nobody watches closely enough to call a worker lost',
    holds: ({ sweeps, fleet }) => sweeps.everyMs < fleet.lostAfterMs / 3,
  },
  {
    paths: ['ledger.lockWaitMsMax', 'ledger.statementMsMax'],
    text: 'lockWaitMsMax must be below statementMsMax, or it never takes effect',
    holds: ({ ledger }) => ledger.lockWaitMsMax < ledger.statementMsMax,
  },
  {
    paths: ['ledger.statementMsMax', 'ledger.startWindowMs'],
    text: 'startWindowMs must be above twice statementMsMax, or a slow lock leaves no time to dispatch',
    holds: ({ ledger }) => ledger.startWindowMs > 2 * ledger.statementMsMax,
  },
  {
    paths: ['broker.confirmMsMax', 'ledger.startWindowMs'],
    text: 'startWindowMs must be above confirmMsMax, or an unconfirmed dispatch is never tried again',
    holds: ({ broker, ledger }) => ledger.startWindowMs > broker.confirmMsMax,
  },
  {
    paths: ['service.stuckAfterMs', 'broker.heartbeatS'],
    text: 'stuckAfterMs must be above three times heartbeatS, or a broker that fell silent looks like a stuck process',
    holds: ({ service, broker }) => service.stuckAfterMs > 3 * MS_PER_S * broker.heartbeatS,
  },
  {
    paths: ['service.stuckAfterMs', 'broker.confirmMsMax'],
    text: 'stuckAfterMs must be above confirmMsMax, or a slow broker looks like a stuck process',
    holds: ({ service, broker }) => service.stuckAfterMs > broker.confirmMsMax,
  },
  {
    paths: ['service.stuckAfterMs', 'ledger.statementMsMax', 'ledger.batchRetriesMax'],
    text: 'stuckAfterMs must be above batchRetriesMax + 1 times statementMsMax, or a slow PostgreSQL looks like a stuck process',
    holds: ({ service, ledger }) =>
      service.stuckAfterMs > (ledger.batchRetriesMax + 1) * ledger.statementMsMax,
  },
];

/** Every relation the configuration breaks, each with the settings it is about. */
export function brokenRules(config: Config): readonly { paths: readonly ConfigPath[]; text: string }[] {
  return RULES.filter((rule) => !rule.holds(config));
}
