import t from 'tap';
import { branchesUnder } from './check-coverage.ts';

const LCOV = `TN:
SF:src/ledger/a.ts
BRF:10
BRH:9
end_of_record
SF:src/ledger/deep/b.ts
BRF:10
BRH:3
end_of_record
SF:src/network/c.ts
BRF:7
BRH:7
end_of_record
`;

await t.test('branches are summed over the files of a room and no other', async (t) => {
  t.same(branchesUnder(LCOV, 'src/ledger'), { found: 20, taken: 12 });
  t.same(branchesUnder(LCOV, 'src/network'), { found: 7, taken: 7 });
  t.same(branchesUnder('', 'src/ledger'), { found: 0, taken: 0 });
});
