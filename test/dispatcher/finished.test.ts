import t from 'tap';
import { digestKeyOf } from '../../src/contracts/canonical.ts';
import { admit } from '../../src/dispatcher/admit.ts';
import { leaveFinished, resend } from '../../src/dispatcher/finished.ts';
import type { Known } from '../../src/dispatcher/types.ts';
import { StoreError } from '../../src/errors.ts';
import type { ExistingJob } from '../../src/ledger/types.ts';
import type { TraceStore } from '../../src/traces/types.ts';
import { arrivalOf, jobMessage, NO_LIMITS, PaperDirectory } from './samples.ts';

/** What is said of a job that has a row, case by case; the stores here are paper, the whole way is in duplicates.test.ts. */
const digestKey = digestKeyOf('a key for tests');
const deps = { directory: new PaperDirectory(), limits: NO_LIMITS, digestKey };

function known(change: Parameters<typeof arrivalOf>[1] = {}): Known {
  const admission = admit(arrivalOf(jobMessage(), change), deps);
  if (admission.kind !== 'admitted') throw new Error(admission.kind);
  return admission.admitted;
}

function row(change: Partial<ExistingJob>): ExistingJob {
  return {
    kind: 'exists',
    state: 'succeeded',
    attempt: 1,
    node: 'n1',
    session: 7,
    startMs: 1_000,
    remainingMs: 5_000,
    modelVersionId: 7,
    chargedMicro: 11n,
    code: null,
    ...change,
  };
}

const findBodies = async () => new Map();
const nothing: TraceStore = { findJob: async () => null, findByTime: async () => [], findBodies };
const away: TraceStore = {
  findJob: () => Promise.reject(new StoreError('mongodb', 'away')),
  findByTime: async () => [],
  findBodies,
};

async function outcome(of: Known, existing: ExistingJob, store = nothing) {
  const [exit] = await leaveFinished([{ known: of, existing }], store);
  return exit?.outcome;
}

await t.test('a first answer without a trace is told from the row', async (t) => {
  const again = known();
  t.match(await outcome(again, row({ state: 'refused', code: 'TG_CREDIT_INSUFFICIENT' })), {
    kind: 'refused',
    refusal: { code: 'TG_CREDIT_INSUFFICIENT' },
  });
  t.match(await outcome(again, row({ state: 'expired' })), {
    kind: 'refused',
    state: 'expired',
    refusal: { code: 'TG_JOB_EXPIRED' },
  });
  t.match(await outcome(again, row({ state: 'failed', code: 'TG_WORKER_LOST' })), {
    kind: 'answered',
    reply: { message: { state: 'failed', error: { code: 'TG_WORKER_LOST' } } },
  });
  t.match(await outcome(again, row({ state: 'cancelled' })), {
    kind: 'answered',
    reply: { message: { state: 'cancelled', error: { code: 'TG_JOB_OVERDUE' } } },
  });
});

await t.test('nothing is said where nobody listens, or the answer is still to come', async (t) => {
  t.match(await outcome(known({ replyTo: null }), row({})), { kind: 'done' });
  t.match(await outcome(known(), row({ state: 'locked', startMs: 0 })), { kind: 'done' });
});

await t.test('a trace that is not there yet is asked for again, for a while', async (t) => {
  const again = known();
  for (const [asked, delayMs] of [50, 100, 200, 400, 800, 1_000, 1_000].entries()) {
    again.arrival.asked = asked;
    t.match(await outcome(again, row({})), { kind: 'later', delayMs });
  }
  t.match(await outcome(known({ redelivered: true }), row({})), { kind: 'done' }, 'its own result replies');
  again.arrival.asked = 24;
  t.match(await outcome(again, row({})), { kind: 'done' });
});

await t.test('with MongoDB away it is asked for again, then the broker keeps it', async (t) => {
  const again = known({ redelivered: true });
  t.match(await outcome(again, row({}), away), { kind: 'later' });
  again.arrival.asked = 24;
  t.match(await outcome(again, row({}), away), { kind: 'requeued' });
  const broken: TraceStore = { ...away, findJob: () => Promise.reject(new TypeError('a mistake')) };
  await t.rejects(outcome(again, row({}), broken), { message: 'a mistake' });
});

await t.test('a locked job is sent again while it may still begin, to where PostgreSQL says', async (t) => {
  const again = known();
  t.match(resend(again, row({ state: 'locked' }), 5, 6), {
    node: 'n1',
    session: 7,
    attempt: 1,
    choice: null,
  });
  t.equal(resend(again, row({}), 5, 6), null, 'it has ended');
  t.equal(resend(again, row({ state: 'locked', node: null }), 5, 6), null, 'it has no node');
  t.equal(resend(again, row({ state: 'locked', session: null }), 5, 6), null, 'nor session');
  t.equal(resend(again, row({ state: 'locked', startMs: 0 }), 5, 6), null, 'its window is over');
  t.equal(resend(again, row({ state: 'locked', remainingMs: 0 }), 5, 6), null, 'its time is over');
  t.equal(resend({ ...again, model: null }, row({ state: 'locked' }), 5, 6), null, 'its model is gone');
});
