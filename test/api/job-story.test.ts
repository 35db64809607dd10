import t from 'tap';
import {
  renderJobStory,
  STORY_COLUMNS_MAX,
  STORY_LINES_MAX,
  type StoryOptions,
} from '../../src/api/job-story.ts';
import { columnsOf, cutTo, oneLine, wrapTo } from '../../src/api/plain-text.ts';
import { newUuidV7 } from '../../src/ids.ts';
import type { JobRecord } from '../../src/ledger/job-records.ts';
import type { EventDocument, RequestDocument, Trace } from '../../src/traces/types.ts';
import { attempt, CONTENT_MARKER, event, request } from '../traces/fixtures.ts';

const AT_MS = 1_763_719_200_123;
const JOB = newUuidV7({ nowMs: () => AT_MS - 45, monotonicMs: () => 0 });

function record(overrides: Partial<JobRecord> = {}): JobRecord {
  return {
    jobId: JOB,
    account: 'acme',
    namespace: 'acme/prod',
    publisher: 'web',
    model: 'llama-3.1-8b-instruct',
    poolSuffix: null,
    modelVersion: 3,
    modelVersionId: 17,
    inputPriceMicro: 1_000_000n,
    outputPriceMicro: 2_000_000n,
    inputTokensMax: 100,
    outputTokensMax: 567,
    timeoutMs: 60_000,
    kind: 'chat',
    priority: 'interactive',
    state: 'succeeded',
    code: null,
    attempt: 1,
    attemptsMax: 3,
    node: 'gpu-7',
    session: 1_763_719_100_000,
    outcome: 'completed',
    inputTokens: 12,
    outputTokens: 200,
    createdAtMs: AT_MS + 6,
    startByMs: AT_MS + 20_006,
    deadlineAtMs: AT_MS + 85_006,
    lockedAtMs: AT_MS + 6,
    lockCommittedAtMs: AT_MS + 8,
    endedAtMs: AT_MS + 2_877,
    lockedMicro: 1_234n,
    chargedMicro: 412n,
    resolution: 'captured',
    resolutionMicro: 412n,
    resolvedAtMs: AT_MS + 2_877,
    resolutionCommittedAtMs: AT_MS + 2_878,
    resultDigest: null,
    replyOwed: false,
    ...overrides,
  };
}

const refused = record({
  state: 'refused',
  code: 'TG_CREDIT_INSUFFICIENT',
  attempt: 0,
  node: null,
  session: null,
  inputPriceMicro: null,
  lockedAtMs: null,
  lockCommittedAtMs: null,
  lockedMicro: 0n,
  chargedMicro: 0n,
  resolution: null,
});

const asked = request({ job: JOB, receivedAtMs: AT_MS });

function traceOf(of: RequestDocument, overrides: Partial<Trace> = {}): Trace {
  return {
    job: of.job,
    request: of,
    routes: [],
    attempts: [attempt(of, { endedAtMs: AT_MS + 2_870 })],
    events: [],
    ...overrides,
  };
}

/** The story, checked against its bounds. */
function story(
  told: JobRecord | null,
  trace: Trace | null,
  options: Omit<StoryOptions, 'jobId'> = {},
): string {
  const text = renderJobStory(told, trace, { jobId: JOB, ...options });
  const lines = text.split('\n');
  t.ok(lines.length <= STORY_LINES_MAX, `${lines.length} lines`);
  for (const line of lines) {
    t.ok(columnsOf(line) <= STORY_COLUMNS_MAX, `${columnsOf(line)} columns`);
    t.notMatch(line, /\p{Cc}/u);
  }
  if (!options.showsContent) t.notMatch(text, new RegExp(CONTENT_MARKER), 'no content');
  return text;
}

await t.test('a finished job is told with its times, lock, node, reason, tokens and cost', (t) => {
  t.equal(
    story(record(), traceOf(asked)),
    `Job ${JOB}: succeeded, 0.000412 credits charged

account    acme, sent by publisher web
namespace  acme/prod
model      llama-3.1-8b-instruct version 3, interactive

Time (UTC)                 since receipt
2025-11-21 10:00:00.078          −45 ms  the client made its id
2025-11-21 10:00:00.123           +0 ms  received by a coordinator
2025-11-21 10:00:00.129           +6 ms  locked: 0.001234 credits set aside
2025-11-21 10:00:00.131           +8 ms  the lock was committed
2025-11-21 10:00:00.134          +11 ms  dispatched to gpu-7, attempt 1
2025-11-21 10:00:03.000       +2,877 ms  ended: succeeded

lock       0.001234 credits held; 0.000412 credits captured, 0.000822 credits returned
cost       0.000412 credits, at 1.000000 credits in and 2.000000 credits out per million tokens
attempt 1  completed on gpu-7, session 1763719100000, NVIDIA L4 24 GB
why there  the model was warm there, 3 slots free; 5 workers had a free slot
waited     45 ms in the queue, by the time in its id; 10.6 ms to its dispatch; 3 ms at the worker
tokens     12 in, 200 out; first after 29 ms, 2,811 ms in all, 71.5 tokens/s`,
  );
  t.end();
});

await t.test('a refused job is told with its code, the field, and whether to send it again', (t) => {
  const refusal = event(asked, {
    kind: 'refusal',
    code: 'TG_CREDIT_INSUFFICIENT',
    field: 'limits.output_tokens_max',
  });
  const trace = traceOf({ ...asked, routing: null }, { attempts: [], events: [refusal] });
  const text = story(refused, trace);
  t.match(
    text,
    /refused\s+TG_CREDIT_INSUFFICIENT, field limits\.output_tokens_max: the account has too little/,
  );
  t.match(text.replace(/\s+/g, ' '), /sending it again may help/);
  t.match(text, /lock +none, and nothing was charged/);
  t.match(text, /refusal TG_CREDIT_INSUFFICIENT/);
  t.end();
});

await t.test('a job under way is told as far as it got', (t) => {
  const under = record({ state: 'locked', endedAtMs: null, chargedMicro: 0n, resolution: null });
  const text = story(under, traceOf(asked, { attempts: [] }));
  t.match(text, /: locked, result awaited until 2025-11-21 10:01:25\.129/);
  t.match(text, /0\.001234 credits held until the job ends/);
  t.match(text, /attempt 1 +on gpu-7, session 1763719100000/);
  t.notMatch(text, /ended/);
  t.end();
});

await t.test('a lost job is told with its voided lock, its code and the reply that is owed', (t) => {
  const lost = record({
    state: 'failed',
    code: 'TG_WORKER_LOST',
    chargedMicro: 0n,
    resolution: 'voided',
    replyOwed: true,
  });
  const ended = attempt(asked, { outcome: 'lost', code: 'TG_WORKER_LOST', result: null });
  const text = story(lost, traceOf(asked, { attempts: [ended] }));
  t.match(text, /attempt 1 +lost \(TG_WORKER_LOST\) on gpu-7/);
  t.match(text, /voided, all of it returned/);
  t.match(text, /reply +owed/);
  const overdue = story({ ...lost, resolution: 'expired' }, null);
  t.match(overdue, /expired with the job, all of it returned/);
  t.end();
});

await t.test('what a store does not know is said', (t) => {
  t.match(story(record(), null), /no trace +MongoDB has no request of this job/);
  const traceOnly = story(null, traceOf(asked));
  t.match(traceOnly, /no record +PostgreSQL has no row of this job/);
  t.match(traceOnly, /its last attempt completed/);
  const nothing = story(null, null);
  t.match(nothing, /no record/);
  t.match(nothing, /no trace/);
  t.notMatch(nothing, /credits/);
  t.end();
});

await t.test('a choice that nobody remembers, and a dispatch that was not confirmed, are said', (t) => {
  const { routing } = asked;
  if (routing === null) throw new Error('the fixture has a routing');
  const forgotten = { isWarm: null, slotsFree: null, workersFree: null };
  const resent = { ...asked, routing: { ...routing, ...forgotten, dispatchedAtMs: null, dispatchMs: null } };
  const text = story(record(), traceOf(resent));
  t.match(text, /why there +not known: a coordinator was restarted/);
  t.notMatch(text, /dispatched to/);
  const cold = { ...asked, routing: { ...routing, isWarm: false, slotsFree: 1, workersFree: 1 } };
  t.match(story(record(), traceOf(cold)), /was not warm there, 1 slot free; 1 worker had a free slot/);
  t.end();
});

await t.test('the answer is shown only when it is asked for, and never the whole of a long one', (t) => {
  const text = story(record(), traceOf(asked), { showsContent: true });
  t.match(text, new RegExp(`Answer\n${CONTENT_MARKER}`));
  t.match(text, /… \([\d,]+ characters in all\)$/);
  const { result } = attempt(asked);
  if (result === null) throw new Error('the fixture has a result');
  const answered = (answer: string | null) =>
    story(record(), traceOf(asked, { attempts: [attempt(asked, { result: { ...result, text: answer } })] }), {
      showsContent: true,
    });
  t.match(answered('two\nlines'), /Answer\ntwo\nlines$/);
  t.match(answered(null), /No answer is kept/);
  t.match(answered('a'.repeat(1_000_000)), /1,000,000 characters in all/);
  t.notMatch(answered('\u001b[31mred\u202e\u0007'), /\p{Cf}/u, 'no way into the terminal');
  t.end();
});

await t.test('long names, many attempts and many events stay within 40 lines of 100 columns', (t) => {
  const long = {
    job: JOB,
    account: 'a'.repeat(62),
    namespace: `${'a'.repeat(62)}/${'n'.repeat(62)}`,
    publisher: 'p'.repeat(62),
    model: 'm'.repeat(64),
  };
  const request62 = request({ ...long, receivedAtMs: AT_MS });
  const attempts = Array.from({ length: 9 }, (_, i) =>
    attempt(request62, {
      attempt: i + 1,
      node: 'n'.repeat(62),
      outcome: 'failed',
      code: 'TG_WORKER_ERROR',
      result: i === 8 ? attempt(request62).result : null,
    }),
  );
  const events: EventDocument[] = Array.from({ length: 500 }, (_, i) =>
    event(request62, {
      key: `event ${i}`,
      message: '漢🦊'.repeat(200),
      sender: 's'.repeat(255),
      atMs: AT_MS + i,
    }),
  );
  const told = record({ ...long, state: 'failed', code: 'TG_WORKER_ERROR', replyOwed: true });
  const trace = traceOf(request62, { attempts, events: events.slice(0, 300) });
  for (const showsContent of [false, true]) {
    const text = story(told, trace, { events, showsContent });
    t.match(text, /5 earlier attempts not shown/);
    t.match(text.replace(/\s+/g, ''), new RegExp(long.namespace), 'a long name is broken, not lost');
    if (!showsContent) t.match(text, /and 49\d more/, 'events of both sources, each once');
  }
  t.end();
});

await t.test('text is cut and broken by the columns it takes', (t) => {
  t.equal(columnsOf('漢字 🦊'), 7);
  t.equal(cutTo(5, '漢字漢字'), '漢字…');
  t.equal(cutTo(8, '漢字漢字'), '漢字漢字');
  t.same(wrapTo(9, 3, 'one two three four'), ['one two', 'three', 'four']);
  t.same(wrapTo(4, 2, 'abcdefghijk'), ['abcd', 'efg…']);
  t.equal(oneLine('a\nb\u200dc\ud800'), 'a bc\ufffd');
  t.end();
});
