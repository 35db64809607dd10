import t from 'tap';
import { admissionOf } from '../../src/network/standing.ts';

const NODE = { lifecycle: 'active', drainByMs: null, ineligibleUntilMs: null } as const;

function at(change: Partial<Parameters<typeof admissionOf>[0]>, nowMs = 1_000) {
  return admissionOf({ ...NODE, ...change }, nowMs, 100);
}

await t.test(
  'three things close a node, each by itself, and only strikes let it come back slowly',
  async (t) => {
    t.equal(at({}), 'open');
    t.equal(at({ lifecycle: 'probation' }), 'open');
    t.equal(at({ lifecycle: 'retired' }), 'closed');
    t.equal(at({ drainByMs: 500 }), 'closed', 'past its deadline, too');
    t.equal(at({ ineligibleUntilMs: 1_001 }), 'closed');
    t.equal(at({ ineligibleUntilMs: 1_000 }), 'trickle');
    t.equal(at({ ineligibleUntilMs: 901 }), 'trickle');
    t.equal(at({ ineligibleUntilMs: 900 }), 'open');
  },
);
