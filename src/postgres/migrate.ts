import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { Client } from 'pg';
import { TollgateError } from '../errors.ts';
import type { Log } from '../ops/types.ts';
import type { Database } from './database.ts';
import { failureOf } from './failures.ts';
import { statement } from './statements.ts';

const folder = new URL('../../sql/', import.meta.url);
const FILE = /^(\d{4})_([a-z0-9_]+)\.sql$/;

interface Migration {
  readonly version: number;
  readonly name: string;
  readonly text: string;
  readonly sha256: Buffer;
}

interface AppliedRow {
  readonly version: number;
  readonly name: string;
  readonly sha256: Buffer;
}

/** How to migrate one database. */
export interface MigrateOptions {
  /** A superuser, or `tollgate_migrator` where all roles stand. Never logged. */
  readonly url: string;
  /** Sets this password for all login roles; null leaves them alone. */
  readonly rolePassword?: string | null;
  /** Longest wait for the connection, in milliseconds; default: as long as the operating system waits. */
  readonly connectTimeoutMs?: number;
  /** Where the migrations are; tests give others. */
  readonly migrations?: URL;
}

/** What a run did. */
export interface MigrateReport {
  /** Names of the files applied by this run, e.g. `0001_schemas`. */
  readonly applied: readonly string[];
  /** The schema version after it. */
  readonly version: number;
  /** Monthly partitions made. */
  readonly partitionsMade: number;
}

function text(file: string): string {
  return readFileSync(new URL(file, folder), 'utf8');
}

function readMigrations(from: URL = new URL('migrations/', folder)): Migration[] {
  return readdirSync(from)
    .toSorted()
    .map((file, index) => {
      const [, digits = '', name = ''] = FILE.exec(file) ?? [];
      if (Number(digits) !== index + 1)
        throw new TollgateError('TG_SCHEMA_MISMATCH', `sql/migrations/${file} is not number ${index + 1}`);
      const body = readFileSync(new URL(file, from));
      return {
        version: index + 1,
        name: `${digits}_${name}`,
        text: body.toString('utf8'),
        sha256: createHash('sha256').update(body).digest(),
      };
    });
}

/** Throws TG_SCHEMA_MISMATCH unless what the database has is the beginning of what this version ships. */
function checkHistory(applied: readonly AppliedRow[], shipped: readonly Migration[]): void {
  for (const [index, row] of applied.entries()) {
    const migration = shipped[index];
    if (migration === undefined)
      throw new TollgateError(
        'TG_SCHEMA_MISMATCH',
        `the database has migration ${row.name}, which this version does not know: use the newer version`,
      );
    if (row.version !== migration.version || !row.sha256.equals(migration.sha256))
      throw new TollgateError(
        'TG_SCHEMA_MISMATCH',
        `migration ${row.name} was applied with another content than sql/migrations/${migration.name}.sql has now: a merged migration never changes, add a new one`,
      );
  }
}

/** Applies the next migration that is missing, in one transaction; null when there is none. */
async function applyNext(client: Client, shipped: readonly Migration[]): Promise<string | null> {
  await client.query('begin');
  try {
    await client.query(statement('lock_migrations'));
    await client.query(text('bookkeeping.sql'));
    const { rows } = await client.query<AppliedRow>(statement('read_migrations'));
    checkHistory(rows, shipped);
    const next = shipped[rows.length];
    if (next !== undefined) {
      // First, so that a second runner that got past the lock could not run the file too.
      await client.query(statement('insert_migration'), [next.version, next.name, next.sha256]);
      await client.query(next.text);
    }
    await client.query('commit');
    return next?.name ?? null;
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}

/** Roles belong to the cluster and may be altered by a run in another database at the same moment: then once more. */
async function prepareRoles(client: Client, password: string | null): Promise<void> {
  for (let triesLeft = 10; ; triesLeft--) {
    try {
      await client.query(text('roles.sql'));
      if (password === null) return;
      const { rows } = await client.query<{ statement: string }>(statement('format_role_passwords'), [
        password,
      ]);
      for (const row of rows) await client.query(row.statement);
      return;
    } catch (error) {
      if (
        triesLeft === 1 ||
        !/concurrently (?:updated|deleted)|already exists|duplicate key/.test(String(error))
      )
        throw error;
    }
  }
}

/**
 * Brings a database to the schema of this version: roles where they are missing, each missing migration in a transaction of
 * its own, the monthly partitions. Forward only. Safe when several run at once, in one database or in several of one
 * cluster; a run with nothing to do changes nothing. Throws TollgateError TG_SCHEMA_MISMATCH when an applied file was
 * changed or the database is newer, StoreError or SqlRejection otherwise.
 */
export async function migrate(options: MigrateOptions, log: Log): Promise<MigrateReport> {
  const shipped = readMigrations(options.migrations);
  const client = new Client({
    connectionString: options.url,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 0,
    application_name: 'tollgate-migrate',
  });
  client.on('error', () => undefined); // The query under way fails with the same error.
  try {
    await client.connect();
    await prepareRoles(client, options.rolePassword ?? null);
    const applied: string[] = [];
    for (
      let name = await applyNext(client, shipped);
      name !== null;
      name = await applyNext(client, shipped)
    ) {
      log.info({ migration: name }, 'Migration applied');
      applied.push(name);
    }
    const { rows } = await client.query<{ made: number }>(statement('ensure_partitions'));
    return { applied, version: shipped.length, partitionsMade: rows[0]?.made ?? 0 };
  } catch (error) {
    throw error instanceof TollgateError ? error : failureOf(error);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/**
 * Checks that the database has exactly the migrations of this version, for `serve` before it takes a job. Throws
 * TollgateError TG_SCHEMA_MISMATCH that says what to run, StoreError when PostgreSQL is away.
 */
export async function verifySchema(db: Database): Promise<void> {
  const shipped = readMigrations();
  let applied: AppliedRow[];
  try {
    applied = await db.query<AppliedRow>('read_migrations');
  } catch (error) {
    if (!(error instanceof TollgateError) || error.code !== 'TG_STORE_REJECTED') throw error;
    throw new TollgateError(
      'TG_SCHEMA_MISMATCH',
      'the database has no Tollgate schema: run `tollgate migrate`',
      {
        cause: error,
      },
    );
  }
  checkHistory(applied, shipped);
  if (applied.length < shipped.length)
    throw new TollgateError(
      'TG_SCHEMA_MISMATCH',
      `the database is at version ${applied.length}, this version needs ${shipped.length}: run \`tollgate migrate\``,
    );
}
