import { Management } from '../broker/management.ts';
import { vhostOf } from '../broker/permissions.ts';
import type { ConfigPath } from '../config-keys.ts';
import type { Config } from '../config-schema.ts';
import { TollgateError } from '../errors.ts';
import { createLog } from '../ops/log.ts';
import { Database } from '../postgres/database.ts';
import { SqlRejection } from '../postgres/failures.ts';

/** What a command about records in PostgreSQL needs to be given. */
export const NEEDS_DATABASE: readonly ConfigPath[] = ['servers.postgresAdminUrl'];

/** An operator waits for one command at a time. */
const CONNECTIONS_MAX = 2;

/** Unknown schema, table, column, function or type. */
const NO_SCHEMA: ReadonlySet<string> = new Set(['3F000', '42P01', '42703', '42883', '42704']);

/** Opens PostgreSQL with the operator's login (`postgresAdminUrl`, else the coordinators'), and closes it after `work`. Throws TG_SCHEMA_MISMATCH where the schema is missing. */
export async function withDatabase<T>(config: Config, work: (db: Database) => Promise<T>): Promise<T> {
  const { servers, ledger } = config;
  const db = new Database(
    {
      url: servers.postgresAdminUrl ?? servers.postgresUrl,
      connectionsMax: CONNECTIONS_MAX,
      connectTimeoutMs: servers.connectTimeoutMs,
      reconnectDelayMsMax: servers.reconnectDelayMsMax,
      statementMsMax: ledger.statementMsMax,
      lockWaitMsMax: ledger.lockWaitMsMax,
      batchRetriesMax: ledger.batchRetriesMax,
    },
    createLog({ level: 'silent' }),
  );
  try {
    return await work(db);
  } catch (error) {
    throw schemaFault(error);
  } finally {
    await db.close();
  }
}

/** TG_SCHEMA_MISMATCH where PostgreSQL refused a statement because what it names is not there; else `error` as it is. */
export function schemaFault(error: unknown): unknown {
  if (!(error instanceof SqlRejection && NO_SCHEMA.has(error.sqlState))) return error;
  const what = 'the database has no Tollgate schema, or that of an older version';
  return new TollgateError('TG_SCHEMA_MISMATCH', what, { cause: error });
}

/** RabbitMQ's management API, or null where no URL of it is given. The vhost is that of `amqpUrl`. */
export function managementOf({ servers }: Config): Management | null {
  if (servers.amqpAdminUrl === null) return null;
  const vhost = vhostOf(servers.amqpUrl);
  return new Management({ url: servers.amqpAdminUrl, vhost, requestMsMax: servers.connectTimeoutMs });
}
