import t from 'tap';
import { loadConfig } from '../../src/config.ts';
import { IntakeLimits } from '../../src/dispatcher/intake-limits.ts';
import type { Account, Publisher } from '../../src/network/types.ts';

/** Limits with a clock that stands still: what is proved here is when they say no. What comes of that is in floods.test.ts. */
function setUp(
  change: Partial<ReturnType<typeof loadConfig>['limits']> = {},
  own: Partial<Account['limits']> = {},
) {
  let nowMs = 1_000_000;
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
  const floods: string[] = [];
  const bounds = { ...loadConfig({ env: {}, needs: [] }).limits, ...change };
  const limits = new IntakeLimits(bounds, clock, ({ name }) => void floods.push(name));
  const none = { jobsPerSecond: null, burstJobs: null, openLocksMax: null, queuedMax: null };
  const account: Account = { id: 7, name: 'acme', namespaces: new Map(), limits: { ...none, ...own } };
  const publisher = { id: 5, name: 'web', accountIds: new Set([7]), bannedUntilMs: Number.NEGATIVE_INFINITY };
  return {
    limits,
    floods,
    publisher: (now: Partial<Publisher> = {}) => limits.ofPublisher({ ...publisher, ...now }),
    account: () => limits.ofAccount(publisher, account),
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

await t.test(
  'a burst goes through at once, then the rate, and the answer says how long to wait',
  async (t) => {
    const { publisher, pass } = setUp({ publisherJobsPerSecond: 10, publisherBurstJobs: 3 });
    t.same([publisher(), publisher(), publisher()], [null, null, null]);
    t.match(publisher()?.refusal, {
      code: 'TG_RATE_LIMITED',
      message: /at most 10 a second; try again in 100 ms/,
    });
    pass(100);
    t.equal(publisher(), null);
    t.not(publisher(), null);
    pass(10_000);
    t.same([publisher(), publisher(), publisher()], [null, null, null], 'what was saved up is the burst');
    t.not(publisher(), null);
  },
);

await t.test("an account's own limit comes before the configuration's", async (t) => {
  const { account } = setUp({ accountBurstJobs: 1_000 }, { jobsPerSecond: 1, burstJobs: 1 });
  t.equal(account(), null);
  t.match(account()?.refusal, { code: 'TG_RATE_LIMITED', field: 'account' });
});

await t.test('one event stands for all refusals of a code, a name and a minute', async (t) => {
  const { publisher, pass } = setUp({ publisherJobsPerSecond: 1, publisherBurstJobs: 1 });
  t.equal(publisher(), null);
  const keys = [publisher(), publisher(), publisher()].map((one) => one?.event);
  t.match(keys[0], /^TG_RATE_LIMITED:web:\d+$/);
  t.same(keys.slice(1), [null, null]);
  pass(60_000);
  t.equal(publisher(), null);
  t.not(publisher()?.event, null, 'another minute, another event');
});

await t.test('open locks are counted here and put right by PostgreSQL', async (t) => {
  const { limits, account } = setUp({}, { openLocksMax: 4 });
  t.equal(account(), null);
  t.same(limits.accountsNearBound, []);
  limits.countLock(7, 1);
  limits.countLock(7, 1);
  t.same(limits.accountsNearBound, [7], 'from half of the bound on');
  limits.setOpenLocks(7, 4);
  t.match(account()?.refusal, { code: 'TG_OPEN_LOCKS' });
  limits.countLock(7, -1);
  t.equal(account(), null);
  for (let i = 0; i < 9; i++) limits.countLock(7, -1);
  limits.countLock(7, 1);
  t.same(limits.accountsNearBound, [], 'never below none');
});

await t.test('a publisher that is cut off is refused whatever it sends', async (t) => {
  const { publisher } = setUp();
  t.match(publisher({ bannedUntilMs: 1_002_500 })?.refusal, {
    code: 'TG_PUBLISHER_CUT_OFF',
    message: /for another 3 s/,
  });
  t.equal(publisher({ bannedUntilMs: 999_999 }), null, 'until its time is over');
});

await t.test('a flood is many refusals a second for some seconds', async (t) => {
  const bounds = {
    publisherJobsPerSecond: 1,
    publisherBurstJobs: 1,
    floodJobsPerSecond: 100,
    floodMs: 3_000,
  };
  const refuse = (perSecond: number, seconds: number, at = setUp(bounds)) => {
    for (let i = 0; i < perSecond * seconds; i++) {
      at.publisher();
      at.pass(1_000 / perSecond);
    }
    return at;
  };
  t.same(refuse(90, 10).floods, [], 'below the rate');
  t.same(refuse(200, 2).floods, [], 'too short');
  t.ok(refuse(200, 5).floods.length > 0);
  const pausing = setUp(bounds);
  for (let i = 0; i < 5; i++) {
    refuse(200, 2, pausing);
    pausing.pass(5_000);
  }
  t.same(pausing.floods, [], 'with pauses');
});
