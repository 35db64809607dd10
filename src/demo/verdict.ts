import type { FinalState } from '../contracts/reply.ts';
import type { Code } from '../errors.ts';
import type { JobState } from '../ledger/types.ts';
import { FLAWS } from './flaws.ts';
import type { Prediction } from './predictions.ts';

/** A reply as its client saw it. */
export interface SeenReply {
  readonly state: FinalState;
  readonly code: Code | null;
  readonly field: string | null;
  readonly job: string | null;
  readonly chargedMicro: number;
}

/** A job's row in PostgreSQL. `conflict`: there is one, of another account or with another body. */
export interface SeenRow {
  readonly state: JobState | 'conflict';
  readonly code: Code | null;
  readonly chargedMicro: bigint;
}

/** What is known of a message that nobody was answered for: from the queue `dead` and the event in its trace. */
export interface SeenDead {
  readonly code: Code | null;
  readonly field: string | null;
}

/** What was seen of a run, by three witnesses besides the generator. */
export interface Evidence {
  /** By the `seq` of the message, which it carried as correlation id. */
  readonly replies: ReadonlyMap<number, readonly SeenReply[]>;
  /** Replies that belong to no message. */
  readonly strayReplies: readonly SeenReply[];
  /** By job id; absent: no row. */
  readonly rows: ReadonlyMap<string, SeenRow>;
  /** By job id. */
  readonly dead: ReadonlyMap<string, SeenDead>;
}

/** One thing that is not as predicted. */
export interface Difference {
  /** Null for a reply that belongs to no message. */
  readonly prediction: Prediction | null;
  readonly witness: 'reply' | 'PostgreSQL' | 'dead letter' | 'charge';
  readonly expected: string;
  readonly seen: string;
}

/** How many messages were to end in one way, and how many did by each witness. */
export interface Tally {
  readonly group: string;
  readonly predicted: number;
  /** Messages that were answered so, or whose dead letter says so. */
  readonly answered: number;
  /** Jobs whose row says so; null for messages that leave no row of their own. */
  readonly rows: number | null;
}

/**
 * Compares what was predicted with what was seen: every message is answered as predicted, by one reply or more; every job's row
 * is as predicted, or there is none; what nobody may be answered for is a dead letter with its reason; and a client was told
 * the same charge that PostgreSQL has. Pure.
 */
export function differencesOf(predictions: readonly Prediction[], evidence: Evidence): Difference[] {
  const twins = twinsOf(predictions);
  const all = predictions.flatMap((one) => [
    ...answerDifferences(one, repliesTo(one, twins, evidence), evidence),
    ...rowDifferences(one, evidence),
  ]);
  const strays = evidence.strayReplies.map((reply) => ({
    prediction: null,
    witness: 'reply' as const,
    expected: 'nothing',
    seen: said(reply.state, reply.code, reply.field),
  }));
  return [...all, ...strays];
}

/** The table of the summary: predictions and what was seen, by group. Pure. */
export function talliesOf(predictions: readonly Prediction[], evidence: Evidence): Tally[] {
  const twins = twinsOf(predictions);
  const groups = Map.groupBy(predictions, groupOf);
  return GROUPS.flatMap((group) => {
    const members = groups.get(group) ?? [];
    if (members.length === 0) return [];
    const isRepeat = members.every(({ kind }) => REPEATS.has(kind));
    const hasRow = !isRepeat && members.some(({ row }) => row !== null);
    return {
      group,
      predicted: members.length,
      answered: members.filter((one) => isAnswered(one, twins, evidence)).length,
      rows: hasRow ? members.filter((one) => evidence.rows.get(one.job)?.state === one.row).length : null,
    };
  });
}

const REPEATS: ReadonlySet<Prediction['kind']> = new Set(['twin', 'again', 'other_body', 'other_account']);

/** In the order of the table. */
const GROUPS = [
  'succeeded',
  'failed: its worker reports an error',
  'expired: nobody serves its model',
  'refused: too little credit',
  'refused: unknown model, no price, over a limit',
  'refused: malformed',
  'refused: wrong address or account',
  'kept as dead letter: nobody may be answered',
  'sent twice at once: one job, answered',
  'sent again after the end: answered again',
  'its id used before: refused',
] as const;

/** Which line of the table a message counts in. */
function groupOf({ kind, state, code, flaw }: Prediction): (typeof GROUPS)[number] {
  if (kind === 'twin') return 'sent twice at once: one job, answered';
  if (kind === 'again') return 'sent again after the end: answered again';
  if (kind === 'other_body' || kind === 'other_account') return 'its id used before: refused';
  if (state === 'dead') return 'kept as dead letter: nobody may be answered';
  if (code === 'TG_CREDIT_INSUFFICIENT') return 'refused: too little credit';
  if (flaw !== null) return GROUP_OF_FLAWS[FLAWS[flaw].group];
  if (state === 'failed') return 'failed: its worker reports an error';
  return state === 'expired' ? 'expired: nobody serves its model' : 'succeeded';
}

const GROUP_OF_FLAWS = {
  malformed: 'refused: malformed',
  misaddressed: 'refused: wrong address or account',
  refused: 'refused: unknown model, no price, over a limit',
} as const;

type Twins = ReadonlyMap<number, readonly Prediction[]>;

/**
 * Messages that are one to the coordinator: the same body twice at once. The answer goes to whichever came last, so one reply
 * serves all of them.
 */
function twinsOf(predictions: readonly Prediction[]): Twins {
  const twins = predictions.filter(({ kind }) => kind === 'twin');
  const jobs = new Set(twins.map(({ job }) => job));
  const groups = Map.groupBy(
    predictions.filter(({ job, kind }) => jobs.has(job) && (kind === 'twin' || kind === 'plain')),
    ({ job }) => job,
  );
  return new Map([...groups.values()].flatMap((group) => group.map((one) => [one.seq, group])));
}

function repliesTo(prediction: Prediction, twins: Twins, { replies }: Evidence): readonly SeenReply[] {
  const group = twins.get(prediction.seq) ?? [prediction];
  return group.flatMap(({ seq }) => replies.get(seq) ?? []);
}

function isAnswered(prediction: Prediction, twins: Twins, evidence: Evidence): boolean {
  const seen = repliesTo(prediction, twins, evidence);
  if (prediction.state === 'dead') return evidence.dead.get(prediction.job)?.code === prediction.code;
  return seen.length > 0 && answerDifferences(prediction, seen, evidence).length === 0;
}

function answerDifferences(
  prediction: Prediction,
  seen: readonly SeenReply[],
  { dead, rows }: Evidence,
): Difference[] {
  const { state, code, field, job } = prediction;
  if (state === 'dead') {
    const letter = dead.get(job);
    const shown = letter === undefined ? 'none' : said('dead', letter.code, letter.field);
    const differences = compared(prediction, 'dead letter', said(state, code, field), shown);
    return seen.length === 0
      ? differences
      : [...differences, ...compared(prediction, 'reply', 'no reply', 'a reply')];
  }
  if (seen.length === 0) return compared(prediction, 'reply', said(state, code, field), 'no reply');
  const wrong = seen.flatMap((reply) =>
    compared(prediction, 'reply', said(state, code, field), said(reply.state, reply.code, reply.field)),
  );
  // A reply names its job, unless the message's id was no id.
  const unnamed = seen
    .filter((reply) => reply.job !== (code === 'TG_JOB_ID_INVALID' ? null : job))
    .flatMap((reply) => compared(prediction, 'reply', `for ${job}`, `for ${reply.job}`));
  const charged = rows.get(job)?.chargedMicro ?? 0n;
  const costs = seen
    .filter((reply) => reply.state === 'succeeded' && BigInt(reply.chargedMicro) !== charged)
    .flatMap((reply) => compared(prediction, 'charge', `${charged} micro`, `${reply.chargedMicro} micro`));
  return [...wrong, ...unnamed, ...costs];
}

/** A repeat says of its job's row what the job itself says, so that each job is judged where it is first named too. */
function rowDifferences(prediction: Prediction, { rows }: Evidence): Difference[] {
  const row = rows.get(prediction.job);
  const expectedCode = REPEATS.has(prediction.kind) ? null : prediction.code;
  const expected = prediction.row === null ? 'no row' : said(prediction.row, expectedCode, null);
  return compared(
    prediction,
    'PostgreSQL',
    expected,
    row === undefined ? 'no row' : said(row.state, row.code, null),
  );
}

function compared(
  prediction: Prediction,
  witness: Difference['witness'],
  expected: string,
  seen: string,
): Difference[] {
  return expected === seen ? [] : [{ prediction, witness, expected, seen }];
}

function said(state: string, code: Code | null, field: string | null): string {
  return [state, code, field].filter((part) => part !== null).join(' ');
}
