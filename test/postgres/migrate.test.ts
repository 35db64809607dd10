import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Client } from 'pg';
import t from 'tap';
import { Database } from '../../src/postgres/database.ts';
import { migrate, verifySchema } from '../../src/postgres/migrate.ts';
import { statement } from '../../src/postgres/statements.ts';
import { databaseOptions, quietLog } from '../support/ledger.ts';
import { isolatedServers, type Teardown } from '../support/servers.ts';

async function emptyDatabase(t: Teardown): Promise<{ url: string; client: Client }> {
  const { postgresAdminUrl: url } = await isolatedServers(t, { postgres: true });
  const client = new Client({ connectionString: url });
  await client.connect();
  t.after(() => client.end());
  return { url, client };
}

/** A copy of the migrations that a test may change. */
function migrationsCopy(t: Teardown): { folder: string; url: URL } {
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-migrations-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(new URL('../../sql/migrations/', import.meta.url), folder, { recursive: true });
  return { folder, url: pathToFileURL(`${folder}/`) };
}

await t.test('migrate', async (t) => {
  await t.test('brings an empty database to the newest version, once', async (t) => {
    const { url, client } = await emptyDatabase(t);
    const first = await migrate({ url }, quietLog);
    t.equal(first.applied.length, first.version);
    t.match(first.applied[0], /^0001_/);
    t.equal(first.partitionsMade, 15);
    t.same(await migrate({ url }, quietLog), { applied: [], version: first.version, partitionsMade: 0 });
    const { rows } = await client.query('select version from tollgate.migrations order by version');
    t.equal(rows.length, first.version);
  });

  await t.test('by several runs at once applies each file once', async (t) => {
    const { url } = await emptyDatabase(t);
    const other = await emptyDatabase(t);
    const reports = await Promise.all([url, url, url, other.url].map((to) => migrate({ url: to }, quietLog)));
    const here = reports.slice(0, 3).flatMap((report) => report.applied);
    t.equal(here.length, reports[0]?.version);
    t.equal(new Set(here).size, here.length);
    t.equal(reports[3]?.applied.length, reports[3]?.version, 'the other database of the cluster too');
  });

  await t.test('as the migrator role, where the roles stand, needs no superuser', async (t) => {
    const { url, client } = await emptyDatabase(t);
    await migrate({ url }, quietLog);
    const fresh = await emptyDatabase(t);
    const database = new URL(fresh.url).pathname.slice(1);
    await client.query(`grant create on database ${database} to tollgate_migrator`);
    const asMigrator = databaseOptions(fresh.url, 'tollgate_migrator').url;
    const report = await migrate({ url: asMigrator }, quietLog);
    t.equal(report.applied.length, report.version);
    t.equal(report.partitionsMade, 15);
  });

  await t.test('refuses when an applied file has changed', async (t) => {
    const { url } = await emptyDatabase(t);
    const copy = migrationsCopy(t);
    await migrate({ url, migrations: copy.url }, quietLog);
    writeFileSync(join(copy.folder, '0001_schemas.sql'), '-- edited\n');
    await t.rejects(migrate({ url, migrations: copy.url }, quietLog), {
      code: 'TG_SCHEMA_MISMATCH',
      message: /0001_schemas was applied with another content/,
    });
  });

  await t.test('refuses when the database is newer', async (t) => {
    const { url } = await emptyDatabase(t);
    const copy = migrationsCopy(t);
    writeFileSync(join(copy.folder, '9999_gap.sql'), '');
    await t.rejects(
      migrate({ url, migrations: copy.url }, quietLog),
      { code: 'TG_SCHEMA_MISMATCH' },
      'a gap',
    );
    rmSync(join(copy.folder, '9999_gap.sql'));
    const { version } = await migrate({ url }, quietLog);
    writeFileSync(
      join(copy.folder, `${String(version + 1).padStart(4, '0')}_later.sql`),
      'create schema later;',
    );
    t.same((await migrate({ url, migrations: copy.url }, quietLog)).version, version + 1);
    await t.rejects(migrate({ url }, quietLog), { code: 'TG_SCHEMA_MISMATCH', message: /newer version/ });
  });

  await t.test('undoes a file that fails and names it no longer', async (t) => {
    const { url, client } = await emptyDatabase(t);
    const copy = migrationsCopy(t);
    const { version } = await migrate({ url }, quietLog);
    const file = join(copy.folder, `${String(version + 1).padStart(4, '0')}_broken.sql`);
    writeFileSync(file, 'create schema half_done; select 1 / 0;');
    await t.rejects(migrate({ url, migrations: copy.url }, quietLog), { code: 'TG_STORE_REJECTED' });
    const { rows } = await client.query(
      `select to_regnamespace('half_done') as made, (select max(version) from tollgate.migrations) as version`,
    );
    t.same(rows, [{ made: null, version }]);
  });

  await t.test('has a statement for the password of every role that logs in, quoted', async (t) => {
    const { url, client } = await emptyDatabase(t);
    await migrate({ url }, quietLog);
    const { rows } = await client.query<{ statement: string }>(statement('format_role_passwords'), [`it's`]);
    t.equal(rows.length, 7);
    t.equal(rows[0]?.statement, `alter role tollgate_auditor password 'it''s'`);
    // Tried, and taken back: the roles belong to everyone on this server.
    await client.query('begin');
    for (const row of rows) await client.query(row.statement);
    const set = await client.query(
      `select from pg_authid where rolname like 'tollgate%' and rolcanlogin and rolpassword like 'SCRAM%'`,
    );
    t.equal(set.rowCount, 7);
    await client.query('rollback');
  });

  await t.test('throws StoreError where nobody answers', async (t) => {
    await t.rejects(migrate({ url: 'postgres://nobody@127.0.0.1:1/none' }, quietLog), { name: 'StoreError' });
  });
});

await t.test('verifySchema', async (t) => {
  const { url } = await emptyDatabase(t);
  const db = new Database(databaseOptions(url, null, 1), quietLog);
  t.after(() => db.close());
  await t.rejects(
    verifySchema(db),
    { code: 'TG_SCHEMA_MISMATCH', message: /run `tollgate migrate`/ },
    'no schema',
  );
  const { version } = await migrate({ url }, quietLog);
  await verifySchema(db);
  const client = new Client({ connectionString: url });
  await client.connect();
  t.after(() => client.end());
  await client.query('delete from tollgate.migrations where version = $1', [version]);
  await t.rejects(verifySchema(db), { message: /run `tollgate migrate`/ }, 'a migration is missing');
  await client.query(`update tollgate.migrations set sha256 = sha256('x') where version = 1`);
  await t.rejects(verifySchema(db), { message: /another content/ }, 'a migration differs');
});
