import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { SCRIPTS } from '../../src/workers/redis.ts';

const folder = new URL('../../src/workers/lua/', import.meta.url);
const read = (name: string) => readFileSync(new URL(`${name}.lua`, folder), 'utf8');

await t.test('the folder holds the scripts that are loaded, and what they share', async (t) => {
  t.same(readdirSync(folder).toSorted(), [...SCRIPTS, 'shared'].map((name) => `${name}.lua`).toSorted());
});

for (const name of SCRIPTS) {
  await t.test(`${name} says what it takes, answers and costs, and whether it may be repeated`, async (t) => {
    const [header = ''] = read(name).split(/^(?!--)/m);
    t.match(header, /^-- .+\./, 'purpose');
    t.match(header, /Returns? /);
    t.match(header, /O\(/);
    t.match(header, /Idempotent/);
    const used = [...read(name).matchAll(/ARGV\[(\d+)\]/g)].map((found) => Number(found[1]));
    for (const index of used) t.ok(index >= 5 && header.includes(`ARGV[${index}`), `ARGV[${index}]`);
    t.notMatch(read(name), /os\.time|os\.clock/, "the time is Redis' own");
  });
}

await t.test('every key is named in the list at the top of shared.lua', async (t) => {
  const shared = read('shared');
  const [header = ''] = shared.split(/^(?!--)/m);
  for (const name of ['shared', ...SCRIPTS]) {
    for (const [, key = ''] of read(name).matchAll(/base \.\. ':([a-z]+)/g)) {
      t.match(header, new RegExp(`^--   ${key}[: ]`, 'm'), `${name}: ${key}`);
    }
  }
});
