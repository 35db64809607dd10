import { readFileSync } from 'node:fs';
import t from 'tap';
import { generatedPages } from '../../src/cli/docs.ts';
import { SETTINGS } from '../../src/config-keys.ts';

await t.test(
  'the generated pages are what the code says: run `npm run -s tollgate -- docs` after a change',
  async (t) => {
    for (const [path, text] of await generatedPages())
      t.equal(readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8'), text, path);
  },
);

await t.test('every setting and its reason is on the page', async (t) => {
  const page = (await generatedPages()).get('docs/configuration.md') ?? '';
  for (const { key, envNames, description } of SETTINGS) {
    t.ok(description.length > 10, `${key} has a reason`);
    t.match(page, `| \`${key}\` | \`${envNames[0]}\` |`);
  }
});
