import { Client } from 'pg';
import t from 'tap';
import { toParameter } from '../../src/postgres/parameters.ts';
import { isolatedServers } from '../support/servers.ts';

await t.test('array parameters arrive as they were', async (t) => {
  const { postgresAdminUrl } = await isolatedServers(t, { postgres: true });
  const client = new Client({ connectionString: postgresAdminUrl });
  await client.connect();
  t.after(() => client.end());
  const cases: readonly [type: string, values: readonly unknown[]][] = [
    ['text', ['', 'plain', 'a"b', 'a\\b', '\\"', '{}', ',', 'null', 'NULL', null, ' spaces ', 'ü\n\t€', `'`]],
    ['text', []],
    ['integer', [0, -1, 2_147_483_647, null]],
    ['boolean', [true, false, null]],
    ['bytea', [Buffer.from([0, 92, 34, 255]), Buffer.alloc(0), null]],
    ['double precision', [1.5, -0.25]],
  ];
  for (const [type, values] of cases) {
    const { rows } = await client.query(`select $1::${type}[] as got`, [toParameter(values)]);
    t.same(rows[0].got, values, type);
  }
  const { rows } = await client.query('select $1::bigint[]::text[] as got', [
    toParameter([Number.MAX_SAFE_INTEGER, 9_007_199_254_740_993n]),
  ]);
  t.same(rows[0].got, ['9007199254740991', '9007199254740993'], 'bigint');
});

await t.test('what is no array is left alone, and an array of anything else is a programmer error', (t) => {
  const buffer = Buffer.from('x');
  for (const value of [null, 1, 'a', buffer]) t.equal(toParameter(value), value);
  t.throws(() => toParameter([{}]), { name: 'InvariantError' });
  t.throws(() => toParameter([undefined]), { name: 'InvariantError' });
  t.end();
});
