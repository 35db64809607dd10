import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { persist } from '../../src/dispatcher/patience.ts';
import { StoreError } from '../../src/errors.ts';

/** Calls that fail `failures` times before they answer. */
function flaky(failures: number) {
  let calls = 0;
  return async () => {
    calls += 1;
    if (calls <= failures) throw new StoreError('redis', `failure ${calls}`);
    return calls;
  };
}

function patience(change: { forMs?: number; isWanted?: () => boolean } = {}) {
  const failures: string[] = [];
  let nowMs = 0;
  return {
    failures,
    // Each look at the clock is 10 ms later.
    clock: { ...systemClock, monotonicMs: () => (nowMs += 10) },
    random: Math.random,
    forMs: 1_000,
    delayMsMax: 5,
    isWanted: () => true,
    onFailure: (error: StoreError) => void failures.push(error.message),
    ...change,
  };
}

await t.test('a call is repeated until it answers', async (t) => {
  const patient = patience();
  t.equal(await persist(flaky(3), patient), 4);
  t.equal(patient.failures.length, 3);
});

await t.test('the last failure is thrown when patience ends', async (t) => {
  await t.rejects(persist(flaky(1_000), patience({ forMs: 100 })), { message: /failure \d+/ });
});

await t.test('nobody is asked again once nobody waits', async (t) => {
  const before = patience({ isWanted: () => false });
  await t.rejects(persist(flaky(5), before));
  t.equal(before.failures.length, 1);
  let looks = 0;
  const during = patience({ isWanted: () => ++looks < 2 });
  await t.rejects(persist(flaky(5), during));
  t.equal(during.failures.length, 1, 'they went while the pause lasted');
});

await t.test('what is no outage is thrown at once', async (t) => {
  const patient = patience();
  await t.rejects(
    persist(() => Promise.reject(new TypeError('a mistake')), patient),
    { message: 'a mistake' },
  );
  t.same(patient.failures, []);
});
