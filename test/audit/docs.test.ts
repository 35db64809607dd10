import t from 'tap';
import { INVARIANTS } from '../../src/audit/catalogue.ts';
import { readSource } from '../support/source-files.ts';

await t.test('docs/audit.md says of every invariant how it is proved and what to do', async (t) => {
  const { text } = readSource('docs/audit.md');
  const sections = text.split(/^### /m).slice(1);
  t.same(sections.map((section) => section.split('\n')[0]).toSorted(), Object.keys(INVARIANTS).toSorted());
  for (const section of sections) t.match(section, /\*Broken:\*|As above/, section.split('\n')[0]);
});
