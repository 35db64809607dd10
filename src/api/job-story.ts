import { constraintOf } from '../contracts/names.ts';
import { CODES } from '../errors.ts';
import { isUuidV7, uuidV7TimeMs } from '../ids.ts';
import type { JobRecord } from '../ledger/job-records.ts';
import type { AttemptDocument, EventDocument, RoutingEntry, Trace } from '../traces/types.ts';
import { cutTo, oneLine, wrapTo } from './plain-text.ts';

/** How a story is told. */
export interface StoryOptions {
  readonly jobId: string;
  /** Also the first lines of the answer. Without it no prompt and no answer is printed. */
  readonly showsContent?: boolean;
  /** Events that name the job and are not in its trace, such as refusals of other messages under its id. */
  readonly events?: readonly EventDocument[];
}

/** A story fits on one screen: lines, and columns of each. */
export const STORY_LINES_MAX = 40;
export const STORY_COLUMNS_MAX = 100;

const LABEL_COLUMNS = 11;
/** Lines of one fact: long names are broken, not lost. */
const FACT_LINES_MAX = 2;
/** Earlier attempts told beside the last one. */
const ATTEMPTS_MAX = 3;
const CONTENT_LINES_MAX = 12;

type Fact = readonly [label: string, text: string];
type Result = NonNullable<AttemptDocument['result']>;

/**
 * One job's story for a terminal: at most 40 lines of 100 columns, plain text without colour. What PostgreSQL or MongoDB does
 * not know is said. Pure.
 */
export function renderJobStory(record: JobRecord | null, trace: Trace | null, options: StoryOptions): string {
  const last = trace?.attempts.at(-1) ?? null;
  const head = [
    [cutTo(STORY_COLUMNS_MAX, headline(record, last, options.jobId))],
    facts([...gaps(record, trace), ...parties(record, trace), ...whyNot(record, trace)]),
    timeline(record, trace, last),
    facts([...money(record), ...work(trace, last), ...earlierAttempts(trace), ...debt(record)]),
  ].filter((section) => section.length > 0);
  const lines = head.flatMap((section, i) => (i === 0 ? section : ['', ...section]));
  const content = options.showsContent ? contentLines(last) : [];
  const eventLinesMax = STORY_LINES_MAX - lines.length - content.length;
  const events = eventLines(allEvents(trace, options.events ?? []), eventLinesMax);
  return [...lines, ...events, ...content].slice(0, STORY_LINES_MAX).join('\n');
}

function headline(record: JobRecord | null, last: AttemptDocument | null, jobId: string): string {
  const name = `Job ${oneLine(jobId)}`;
  if (record === null) return last === null ? name : `${name}: its last attempt ${last.outcome}`;
  if (record.state === 'locked') {
    const until = record.deadlineAtMs === null ? '' : ` until ${time(record.deadlineAtMs)}`;
    return `${name}: locked, result awaited${until}`;
  }
  return `${name}: ${record.state}, ${credits(record.chargedMicro)} charged`;
}

/** What is not there, in plain words. */
function gaps(record: JobRecord | null, trace: Trace | null): Fact[] {
  const missing: Fact[] = [];
  if (record === null)
    missing.push(['no record', 'PostgreSQL has no row of this job: it was never locked or refused']);
  if (trace === null) {
    missing.push([
      'no trace',
      'MongoDB has no request of this job; while MongoDB was away it may be in the spool',
    ]);
  }
  return missing;
}

function parties(record: JobRecord | null, trace: Trace | null): Fact[] {
  const source = trace?.request ?? record;
  if (source === null) return [];
  const version = source.modelVersion === null ? '' : ` version ${source.modelVersion}`;
  return [
    ['account', `${source.account ?? '?'}, sent by publisher ${source.publisher ?? '?'}`],
    ['namespace', source.namespace ?? '?'],
    ['model', `${source.model ?? '?'}${version}, ${source.priority}`],
    ...constraintFact(record?.poolSuffix ?? null),
  ];
}

function constraintFact(poolSuffix: string | null): Fact[] {
  if (poolSuffix === null) return [];
  const { region, vramGbMin } = constraintOf(poolSuffix);
  const parts = [
    ...(region === null ? [] : [`region ${region}`]),
    ...(vramGbMin === null ? [] : [`at least ${vramGbMin} GB of memory`]),
  ];
  return [['only', parts.join(', ')]];
}

/** Why it was refused, expired or failed. */
function whyNot(record: JobRecord | null, trace: Trace | null): Fact[] {
  if (record === null || record.code === null) return [];
  const { code, state } = record;
  const field = trace?.events.find((event) => event.code === code)?.field ?? null;
  const { text, retryable } = CODES[code];
  const again = retryable ? 'sending it again may help' : 'sending it again as it is does not help';
  return [[state, `${code}${field === null ? '' : `, field ${field}`}: ${text}; ${again}`]];
}

interface Moment {
  readonly atMs: number;
  readonly what: string;
}

function timeline(record: JobRecord | null, trace: Trace | null, last: AttemptDocument | null): string[] {
  const moments = momentsOf(record, trace, last);
  const startMs = trace?.request.receivedAtMs ?? record?.createdAtMs ?? moments[0]?.atMs ?? 0;
  const rows = moments.map(({ atMs, what }) => {
    const since = `${atMs < startMs ? '−' : '+'}${count(Math.abs(atMs - startMs))} ms`;
    return cutTo(STORY_COLUMNS_MAX, `${time(atMs)}  ${since.padStart(14)}  ${oneLine(what)}`);
  });
  return rows.length === 0 ? [] : ['Time (UTC)                 since receipt', ...rows];
}

function momentsOf(record: JobRecord | null, trace: Trace | null, last: AttemptDocument | null): Moment[] {
  const moments: Moment[] = [];
  const note = (atMs: number | null | undefined, what: string) => {
    if (atMs !== null && atMs !== undefined) moments.push({ atMs, what });
  };
  const routing = trace?.request.routing;
  const later = trace?.routes.slice(-ATTEMPTS_MAX) ?? [];
  const jobId = record?.jobId ?? trace?.job ?? '';
  if (isUuidV7(jobId)) note(uuidV7TimeMs(jobId), 'the client made its id');
  note(trace?.request.receivedAtMs, 'received by a coordinator');
  const lockedMicro = record?.lockedMicro ?? last?.lockedMicro;
  const amount = lockedMicro === undefined ? '' : `: ${credits(lockedMicro)} set aside`;
  note(record?.lockedAtMs ?? routing?.lockedAtMs, `locked${amount}`);
  note(record?.lockCommittedAtMs, 'the lock was committed');
  for (const { dispatchedAtMs, node, attempt } of [routing, ...later.map((route) => route.routing)].filter(
    (one) => one !== null && one !== undefined,
  ))
    note(dispatchedAtMs, `dispatched to ${node}, attempt ${attempt}`);
  if (record === null) note(last?.endedAtMs, `ended: ${last?.outcome ?? ''}`);
  else note(record.endedAtMs, `ended: ${record.state}`);
  return moments;
}

function money(record: JobRecord | null): Fact[] {
  if (record === null) return [];
  if (record.lockedMicro === 0n && record.attempt === 0) return [['lock', 'none, and nothing was charged']];
  return [
    ['lock', resolutionOf(record)],
    ['cost', `${credits(record.chargedMicro)}${pricesOf(record)}`],
  ];
}

function pricesOf({ inputPriceMicro, outputPriceMicro }: JobRecord): string {
  if (inputPriceMicro === null || outputPriceMicro === null) return '';
  return `, at ${credits(inputPriceMicro)} in and ${credits(outputPriceMicro)} out per million tokens`;
}

function resolutionOf({ resolution, lockedMicro, chargedMicro }: JobRecord): string {
  const held = credits(lockedMicro);
  if (resolution === null) return `${held} held until the job ends`;
  const how = {
    captured: `${credits(chargedMicro)} captured, ${credits(lockedMicro - chargedMicro)} returned`,
    voided: 'voided, all of it returned',
    expired: 'expired with the job, all of it returned',
  };
  return `${held} held; ${how[resolution]}`;
}

/** The last attempt: where it ran and why there, what it waited for, what it made. */
function work(trace: Trace | null, last: AttemptDocument | null): Fact[] {
  const route = trace?.routes.at(-1);
  const routing = route?.routing ?? trace?.request.routing ?? null;
  const told: Fact[] = [];
  if (last) told.push([`attempt ${last.attempt}`, outcomeOf(last)]);
  else if (routing)
    told.push([`attempt ${routing.attempt}`, `on ${routing.node}, session ${routing.session}`]);
  if (routing) told.push(['why there', reasonOf(routing)]);
  if (route && route.model !== trace?.request.model)
    told.push(['fallback', `${route.model}, which the job allows`]);
  if (trace) told.push(['waited', waits(trace, last?.result ?? null)]);
  if (last?.result) told.push(['tokens', tokensOf(last.result)]);
  return told;
}

function outcomeOf({ outcome, node, session, code, result, decision }: AttemptDocument): string {
  const place = node === '' ? '' : ` on ${node}, session ${session}`;
  const gpu = result?.gpu ? `, ${result.gpu.name} ${result.gpu.vramGb} GB` : '';
  const why = code === null ? '' : ` (${code}${result?.error ? `, worker's code ${result.error.code}` : ''})`;
  return `${outcome}${why}${place}${gpu}${decisionOf(decision)}`;
}

/** What was decided about a failure, and by whose fault it was. */
function decisionOf(decision: AttemptDocument['decision']): string {
  if (decision === null) return '';
  const fault = decision.class.replaceAll('_', ' ');
  const uncounted = decision.isCounted ? '' : ', no try used';
  if (decision.action === 'fail') return `; decided (${fault}): the job ends`;
  const pause = decision.delayMs ? `after ${count(decision.delayMs)} ms` : 'at once';
  return `; decided (${fault}${uncounted}): another attempt ${pause}`;
}

function reasonOf({ isWarm, slotsFree, workersFree }: RoutingEntry): string {
  if (isWarm === null || slotsFree === null || workersFree === null) {
    return 'not known: a coordinator was restarted and sent it again from its lock';
  }
  const model = isWarm ? 'the model was warm there' : 'the model was not warm there';
  return `${model}, ${counted(slotsFree, 'slot')} free; ${counted(workersFree, 'worker')} had a free slot`;
}

function waits({ job, request }: Trace, result: Result | null): string {
  const queuedMs = Math.max(0, request.receivedAtMs - uuidV7TimeMs(job));
  const parts = [`${count(queuedMs)} ms in the queue, by the time in its id`];
  const dispatchMs = request.routing?.dispatchMs ?? null;
  if (dispatchMs !== null) parts.push(`${dispatchMs.toFixed(1)} ms to its dispatch`);
  if (result) parts.push(`${count(result.queuedMs)} ms at the worker`);
  return parts.join('; ');
}

function tokensOf(result: Result): string {
  const { inputTokens, outputTokens, firstTokenMs, totalMs } = result;
  const first = firstTokenMs === null ? '' : `first after ${count(firstTokenMs)} ms, `;
  // Without the first one, whose time is the prompt's and not the generator's.
  const generatingMs = totalMs - (firstTokenMs ?? 0);
  const generated = firstTokenMs === null ? outputTokens : outputTokens - 1;
  const rate =
    generated > 0 && generatingMs > 0 ? `, ${((generated * 1_000) / generatingMs).toFixed(1)} tokens/s` : '';
  return `${count(inputTokens)} in, ${count(outputTokens)} out; ${first}${count(totalMs)} ms in all${rate}`;
}

function earlierAttempts(trace: Trace | null): Fact[] {
  const earlier = trace?.attempts.slice(0, -1) ?? [];
  const told: Fact[] = earlier
    .slice(-ATTEMPTS_MAX)
    .map((each) => [`attempt ${each.attempt}`, outcomeOf(each)]);
  const untold = earlier.length - told.length;
  return untold === 0 ? told : [...told, ['attempts', `${counted(untold, 'earlier attempt')} not shown`]];
}

function debt(record: JobRecord | null): Fact[] {
  return record?.replyOwed ? [['reply', 'owed: the client has not been told yet']] : [];
}

function allEvents(trace: Trace | null, others: readonly EventDocument[]): EventDocument[] {
  const byKey = new Map([...(trace?.events ?? []), ...others].map((event) => [event.key, event]));
  return [...byKey.values()].toSorted((a, b) => a.atMs - b.atMs);
}

/** The events in at most `linesMax` lines, a blank one and a head among them; the oldest are told. */
function eventLines(events: readonly EventDocument[], linesMax: number): string[] {
  if (events.length === 0 || linesMax < 3) return [];
  const room = linesMax - 2;
  const shown = events.length <= room ? events : events.slice(0, room - 1);
  const more = events.length - shown.length;
  return [
    '',
    'Events',
    ...shown.map(({ atMs, kind, code, field, sender, message }) => {
      const where = field === null ? '' : `, field ${field}`;
      const who = sender === null ? '' : `, from ${sender}`;
      return cutTo(STORY_COLUMNS_MAX, oneLine(`${time(atMs)}  ${kind} ${code}${where}${who}: ${message}`));
    }),
    ...(more === 0 ? [] : [`and ${count(more)} more`]),
  ];
}

function contentLines(last: AttemptDocument | null): string[] {
  const text = last?.result?.text;
  if (!text) return ['', 'No answer is kept of this job.'];
  // An answer may be a megabyte; no more of it than fits is looked at.
  const lines = text
    .slice(0, STORY_COLUMNS_MAX * CONTENT_LINES_MAX)
    .split('\n')
    .flatMap((line) => wrapTo(STORY_COLUMNS_MAX, CONTENT_LINES_MAX, oneLine(line)));
  const shown = lines.slice(0, CONTENT_LINES_MAX - 3);
  const isWhole = shown.length === lines.length && text.length <= STORY_COLUMNS_MAX * CONTENT_LINES_MAX;
  return ['', 'Answer', ...shown, ...(isWhole ? [] : [`… (${count(text.length)} characters in all)`])];
}

/** Label and text in columns; long texts go on under themselves. */
function facts(list: readonly Fact[]): string[] {
  return list.flatMap(([label, text]) => {
    const lines = wrapTo(STORY_COLUMNS_MAX - LABEL_COLUMNS, FACT_LINES_MAX, oneLine(text));
    return lines.map((line, i) => `${(i === 0 ? label : '').padEnd(LABEL_COLUMNS)}${line}`);
  });
}

/** `2026-11-21 10:00:00.123`, UTC. */
function time(atMs: number): string {
  return new Date(atMs).toISOString().replace('T', ' ').replace('Z', '');
}

/** `0.000412 credits`: all six digits, because a millionth is the unit. */
function credits(micro: bigint): string {
  const digits = micro.toString().padStart(7, '0');
  return `${digits.slice(0, -6)}.${digits.slice(-6)} credits`;
}

/** `12,345`. */
function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** `1 slot`, `3 slots`. */
function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}
