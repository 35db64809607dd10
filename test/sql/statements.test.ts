import { readdirSync, readFileSync } from 'node:fs';
import { Client } from 'pg';
import t from 'tap';
import { statement } from '../../src/postgres/statements.ts';
import { migratedDatabase } from '../support/ledger.ts';

const folder = new URL('../../sql/queries/', import.meta.url);
const names = readdirSync(folder).map((file) => file.replace(/\.sql$/, ''));

/** The parameters a header names: `$1 ids uuid[]` → `uuid[]`, in order. */
function headerTypes(text: string): string[] {
  const header = text
    .split('\n')
    .filter((line) => line.startsWith('--'))
    .map((line) => line.slice(2).trim())
    .join(' ');
  const [, params = ''] = /Params: (.*?) Returns:/.exec(header) ?? [];
  return [...params.matchAll(/\$(\d+) (\w+) ([a-z\d]+(?:\.[a-z]+)?(?:\[\])?)/g)].map((match, i) => {
    if (Number(match[1]) !== i + 1) throw new Error(`parameter ${match[1]} stands at place ${i + 1}`);
    return match[3] ?? '';
  });
}

await t.test('every statement', async (t) => {
  const client = new Client({ connectionString: await migratedDatabase(t) });
  await client.connect();
  t.after(() => client.end());

  await t.test('is named for what it does', (t) => {
    for (const name of names) t.match(name, /^[a-z]+(?:_[a-z]+)*$/);
    t.end();
  });

  await t.test('says its purpose, parameters, rows and locks', (t) => {
    for (const name of names) {
      const text = readFileSync(new URL(`${name}.sql`, folder), 'utf8');
      t.match(text, /^-- [A-Z]/, `${name}: purpose`);
      for (const part of ['Params: ', 'Returns: ', 'Locks: '])
        t.match(text.replaceAll('\n-- ', ' '), part, name);
      t.equal(text, statement(name), `${name} is loaded as it is`);
    }
    t.end();
  });

  // LISTEN is no statement that can be prepared.
  for (const name of names.filter((candidate) => candidate !== 'listen_directory')) {
    await t.test(`${name} prepares, with the parameters of its header`, async (t) => {
      await client.query(`prepare "${name}" as ${statement(name)}`);
      const { rows } = await client.query<{ types: string[] }>(
        'select parameter_types::text[] as types from pg_prepared_statements where name = $1',
        [name],
      );
      t.same(rows[0]?.types, headerTypes(statement(name)));
    });
  }

  await t.test('a name without a file is a programmer error', (t) => {
    t.throws(() => statement('drop_everything'), { name: 'InvariantError' });
    t.end();
  });
});
