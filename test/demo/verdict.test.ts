import t from 'tap';
import type { Prediction } from '../../src/demo/predictions.ts';
import { differencesOf, type Evidence, type SeenReply, talliesOf } from '../../src/demo/verdict.ts';

const SUCCEEDED = { state: 'succeeded', code: null, field: null, row: 'succeeded' } as const;

function prediction(seq: number, change: Partial<Prediction> = {}): Prediction {
  const names = { account: 'acme', publisher: 'acme-web', at_ms: 0 };
  return { seq, job: `job-${seq}`, kind: 'plain', flaw: null, ...names, ...SUCCEEDED, ...change };
}

function reply(job: string | null, change: Partial<SeenReply> = {}): SeenReply {
  return { state: 'succeeded', code: null, field: null, job, chargedMicro: 7, ...change };
}

function evidence(change: Partial<Evidence> = {}): Evidence {
  return {
    replies: new Map([[0, [reply('job-0')]]]),
    strayReplies: [],
    rows: new Map([['job-0', { state: 'succeeded', code: null, chargedMicro: 7n }]]),
    dead: new Map(),
    ...change,
  };
}

/** The witnesses that disagree with one plain job that was predicted to succeed. */
function witnesses(change: Partial<Evidence>, predictions = [prediction(0)]): string[] {
  return differencesOf(predictions, evidence(change)).map(({ witness, seen }) => `${witness}: ${seen}`);
}

function rows(state: 'failed' | 'conflict'): Evidence['rows'] {
  return new Map([['job-0', { state, code: null, chargedMicro: 7n }]]);
}

await t.test('what ended as predicted is no difference, also when it was answered twice', async (t) => {
  t.same(witnesses({}), []);
  t.same(witnesses({ replies: new Map([[0, [reply('job-0'), reply('job-0')]]]) }), []);
});

await t.test('a reply that is missing, says otherwise, or names another job is one', async (t) => {
  t.same(witnesses({ replies: new Map() }), ['reply: no reply']);
  const refused = { state: 'refused', code: 'TG_JOB_LIMITS', field: 'limits' } as const;
  t.same(witnesses({ replies: new Map([[0, [reply('job-0'), reply('job-0', refused)]]]) }), [
    'reply: refused TG_JOB_LIMITS limits',
  ]);
  t.same(witnesses({ replies: new Map([[0, [reply('job-9')]]]) }), ['reply: for job-9']);
  t.same(witnesses({ strayReplies: [reply('job-9')] }), ['reply: succeeded']);
});

await t.test('a row that is missing, is in another state or was not to be is one', async (t) => {
  t.same(witnesses({ rows: rows('failed') }), ['PostgreSQL: failed']);
  t.same(witnesses({ rows: rows('conflict') }), ['PostgreSQL: conflict']);
  t.ok(witnesses({ rows: new Map() }).includes('PostgreSQL: no row'));
  const malformed = prediction(0, {
    kind: 'flawed',
    flaw: 'not_json',
    state: 'refused',
    code: 'TG_MESSAGE_NOT_JSON',
    field: 'body',
    row: null,
  });
  const answer = reply('job-0', {
    state: 'refused',
    code: 'TG_MESSAGE_NOT_JSON',
    field: 'body',
    chargedMicro: 0,
  });
  t.same(witnesses({ replies: new Map([[0, [answer]]]) }, [malformed]), ['PostgreSQL: succeeded']);
});

await t.test('a charge that clients were told and PostgreSQL does not have is one', async (t) => {
  t.same(witnesses({ replies: new Map([[0, [reply('job-0', { chargedMicro: 8 })]]]) }), ['charge: 8 micro']);
});

await t.test('a dead letter must be there with its reason, and nobody may be answered', async (t) => {
  const dead = { state: 'dead', code: 'TG_SENDER_MISSING', field: 'user_id', row: null } as const;
  const predictions = [prediction(0, { kind: 'flawed', flaw: 'no_sender', ...dead })];
  const letter = new Map([['job-0', { code: dead.code, field: dead.field }]]);
  const none = { rows: new Map(), replies: new Map() };
  t.same(witnesses({ ...none, dead: letter }, predictions), []);
  t.same(witnesses(none, predictions), ['dead letter: none']);
  t.same(witnesses({ rows: new Map(), dead: letter }, predictions), ['reply: a reply']);
});

await t.test('one reply serves both messages that said the same at once', async (t) => {
  const twins = [prediction(0), prediction(1, { kind: 'twin', job: 'job-0' })];
  t.same(witnesses({}, twins), []);
  t.same(witnesses({ replies: new Map([[1, [reply('job-0')]]]) }, twins), []);
  t.equal(witnesses({ replies: new Map() }, twins).length, 2);
});

await t.test('a repeat after the end needs an answer of its own', async (t) => {
  const again = [prediction(0), prediction(1, { kind: 'again', job: 'job-0' })];
  t.same(witnesses({}, again), ['reply: no reply']);
  const reused = {
    kind: 'other_body',
    job: 'job-0',
    state: 'refused',
    code: 'TG_JOB_ID_REUSED',
    field: 'id',
  } as const;
  const no = reply('job-0', { state: 'refused', code: 'TG_JOB_ID_REUSED', field: 'id', chargedMicro: 0 });
  const replies = new Map([
    [0, [reply('job-0')]],
    [1, [no]],
  ]);
  t.same(witnesses({ replies }, [prediction(0), prediction(1, reused)]), [], 'and leaves the row as it is');
});

await t.test('the table counts each message once, and rows only where a message has one', async (t) => {
  const limits = {
    state: 'refused',
    code: 'TG_JOB_LIMITS',
    field: 'limits.timeout_ms',
    row: 'refused',
  } as const;
  const predictions = [
    prediction(0),
    prediction(1),
    prediction(2, { kind: 'twin', job: 'job-0' }),
    prediction(3, { kind: 'flawed', flaw: 'over_timeout', ...limits }),
  ];
  const no = { state: limits.state, code: limits.code };
  const seen = evidence({
    replies: new Map([
      [0, [reply('job-0')]],
      [3, [reply('job-3', { ...no, field: limits.field, chargedMicro: 0 })]],
    ]),
    rows: new Map([
      ['job-0', { state: 'succeeded', code: null, chargedMicro: 7n }],
      ['job-3', { ...no, chargedMicro: 0n }],
    ]),
  });
  t.same(talliesOf(predictions, seen), [
    { group: 'succeeded', predicted: 2, answered: 1, rows: 1 },
    { group: 'refused: unknown model, no price, over a limit', predicted: 1, answered: 1, rows: 1 },
    { group: 'sent twice at once: one job, answered', predicted: 1, answered: 1, rows: null },
  ]);
});
