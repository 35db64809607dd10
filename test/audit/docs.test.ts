import t from 'tap';
import { INVARIANTS } from '../../src/audit/catalogue.ts';
import { readSource } from '../support/source-files.ts';

await t.test('docs/audit.md says of every invariant how it is proved and what to do', async (t) => {
  const { text } = readSource('docs/audit.md');
  const sections = text.split(/^### /m).slice(1);
  const explained = sections.map((section) => section.split('\n')[0] ?? '');
  t.same(new Set(explained), new Set(Object.keys(INVARIANTS)));
  t.equal(explained.length, Object.keys(INVARIANTS).length, 'each once');
  for (const section of sections) t.match(section, /\*Broken:\*|As above/);
});
