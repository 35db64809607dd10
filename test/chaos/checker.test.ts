import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { JobBook } from '../../chaos/books.ts';
import { judge, MUST_BE_ZERO, type Verdict } from '../../chaos/checker.ts';
import { EvidenceLog, type Line } from '../../chaos/evidence.ts';
import { isZero } from '../../chaos/report.ts';
import type { AuditReport, InvariantReport } from '../../src/audit/types.ts';

const CLEAN: AuditReport = { verdict: 'ok', invariants: [], ms: 1 };

function row(id: string, change: Partial<JobBook> = {}): JobBook {
  return { id, state: 'succeeded', code: null, attempt: 1, node: 'good-0-1', chargedMicro: 7, ...change };
}

function good(key: string): Line[] {
  return [
    { what: 'sent', key, kind: 'job' },
    { what: 'confirmed', key },
    { what: 'replied', key, job: key, state: 'succeeded', code: null, chargedMicro: 7 },
  ];
}

interface Scene {
  readonly lines: readonly Line[];
  readonly rows: readonly JobBook[];
  readonly capturedTwice?: readonly string[];
  readonly audit?: AuditReport;
  readonly probeFaults?: readonly string[];
}

async function judged(t: Test, scene: Scene): Promise<Verdict> {
  const file = join(t.testdir(), 'generator.jsonl');
  const log = new EvidenceLog(file);
  for (const line of scene.lines) log.add(line);
  log.close();
  const books = {
    jobs: async () => new Map(scene.rows.map((one) => [one.id, one])),
    capturedTwice: async () => [...(scene.capturedTwice ?? [])],
  };
  const probe = { faults: [...(scene.probeFaults ?? [])], taken: 3 };
  return judge(books, file, scene.audit ?? CLEAN, probe, 10);
}

function broken(id: InvariantReport['id'], verdict: InvariantReport['verdict'], count: number): AuditReport {
  const one = { id, title: '', verdict, checked: 9, broken: count, examples: [], note: null, ms: 1 };
  return { verdict: verdict === 'broken' ? 'broken' : 'not_provable', invariants: [one], ms: 1 };
}

await t.test('a run in which everything ended well is good, and is counted by classes', async (t) => {
  const verdict = await judged(t, {
    lines: [
      ...good('a'),
      { what: 'sent', key: 'b', kind: 'job' },
      { what: 'unconfirmed', key: 'b' },
      { what: 'confirmed', key: 'b' },
      { what: 'replayed', key: 'b', copies: 4 },
      { what: 'replied', key: 'b', job: 'b', state: 'failed', code: 'TG_WORKER_LOST', chargedMicro: 0 },
      { what: 'sent', key: 'c', kind: 'poison' },
      { what: 'confirmed', key: 'c' },
      {
        what: 'replied',
        key: 'c',
        job: null,
        state: 'refused',
        code: 'TG_MESSAGE_NOT_JSON',
        chargedMicro: 0,
      },
    ],
    rows: [row('a'), row('b', { state: 'failed', chargedMicro: 0 })],
  });
  t.match(verdict, {
    attempted: 3,
    acknowledged: 3,
    settled: 1,
    voided: 1,
    refused: 1,
    recovered: 1,
    replayed: 4,
  });
  t.same(verdict.ends, { 'failed on good': 1, 'succeeded on good': 1 });
  t.ok(isZero(verdict, []));
  t.notOk(isZero(verdict, [{ coordinator: 0, how: 'exit 70', log: '' }]), 'a crash is never good');
});

type Column = (typeof MUST_BE_ZERO)[number];

/** One thing wrong in each, and the column that has to say so. */
const WRONG: Readonly<Record<string, { column: Column; also?: Column; scene: Scene }>> = {
  'a confirmed job is nowhere': {
    column: 'lost',
    scene: {
      lines: [
        { what: 'sent', key: 'a', kind: 'job' },
        { what: 'confirmed', key: 'a' },
      ],
      rows: [],
    },
  },
  'a confirmed job is still locked': {
    column: 'lost',
    scene: { lines: good('a').slice(0, 2), rows: [row('a', { state: 'locked' })] },
  },
  'a job was captured twice': {
    column: 'duplicated',
    scene: { lines: good('a'), rows: [row('a')], capturedTwice: ['a'] },
  },
  'a client was told of two charges': {
    column: 'duplicated',
    also: 'unexpected',
    scene: {
      lines: [
        ...good('a'),
        { what: 'replied', key: 'a', job: 'a', state: 'succeeded', code: null, chargedMicro: 9 },
      ],
      rows: [row('a')],
    },
  },
  'a row is of a job that nobody sent': {
    column: 'unexpected',
    scene: { lines: good('a'), rows: [row('a'), row('b')] },
  },
  'a client was told another end than the books have': {
    column: 'unexpected',
    scene: { lines: good('a'), rows: [row('a', { state: 'failed', chargedMicro: 0 })] },
  },
  'a reply answers nothing': {
    column: 'unexpected',
    scene: { lines: [...good('a'), ...good('b').slice(2)], rows: [row('a')] },
  },
  'poison was locked': {
    column: 'unexpected',
    scene: {
      lines: [{ what: 'sent', key: 'a', kind: 'poison' }, ...good('a').slice(1)],
      rows: [row('a')],
    },
  },
  'a client never heard of the end': {
    column: 'unanswered',
    scene: { lines: good('a').slice(0, 2), rows: [row('a')] },
  },
  'a dispatch left before its lock': {
    column: 'unlockedDispatches',
    scene: { lines: good('a'), rows: [row('a')], audit: broken('dispatch.lock_first', 'broken', 1) },
  },
  'a slot leaked': {
    column: 'slotsLeaked',
    scene: { lines: good('a'), rows: [row('a')], audit: broken('slots.not_leaked', 'broken', 2) },
  },
  'a trace is still awaited at the end': {
    column: 'tracesMissing',
    scene: { lines: good('a'), rows: [row('a')], audit: broken('traces.requests', 'waiting', 0) },
  },
  'counters differ from the transfers': {
    column: 'invariantsBroken',
    scene: { lines: good('a'), rows: [row('a')], audit: broken('credits.counters', 'broken', 1) },
  },
  'a snapshot saw an overdraft': {
    column: 'probesBroken',
    scene: { lines: good('a'), rows: [row('a')], probeFaults: ['1 accounts are overdrawn'] },
  },
};

await t.test('each fault is in its column, and in no other', async (t) => {
  for (const [what, { column, also, scene }] of Object.entries(WRONG))
    await t.test(what, async (t) => {
      const verdict = await judged(t, scene);
      t.ok(verdict[column] > 0, JSON.stringify(verdict));
      t.same(
        MUST_BE_ZERO.filter((other) => other !== column && other !== also && verdict[other] > 0),
        [],
      );
      t.notOk(isZero(verdict, []));
    });
  t.same(
    MUST_BE_ZERO.filter((column) => !Object.values(WRONG).some((one) => one.column === column)),
    [],
    'every column can be other than zero',
  );
});
