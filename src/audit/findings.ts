import { INVARIANTS, type InvariantId } from './catalogue.ts';
import type { AuditReport, Example, InvariantReport, Verdict } from './types.ts';

/** Offenders kept per invariant; the others are counted. */
const EXAMPLES_MAX = 10;

interface Finding {
  checked: number;
  broken: number;
  ms: number;
  readonly examples: Example[];
  /** The verdict that stands unless something is broken. */
  otherwise: Exclude<Verdict, 'broken'>;
  note: string | null;
}

/** What the walks have found so far. */
export class Findings {
  readonly #byId = new Map<InvariantId, Finding>();

  /** `count` more things were judged by each of these. */
  checked(ids: readonly InvariantId[], count: number): void {
    for (const id of ids) this.#of(id).checked += count;
  }

  /** `subject` breaks the invariant; `what` says how, in one sentence. */
  broken(id: InvariantId, subject: string, what: string): void {
    const finding = this.#of(id);
    // What is broken is shown before what only waits.
    if (finding.broken === 0) finding.examples.length = 0;
    finding.broken += 1;
    keep(finding, { id: subject, what });
  }

  /** `count` more break it in the same way, without being named. */
  brokenToo(id: InvariantId, count: number): void {
    this.#of(id).broken += count;
  }

  /** The invariant can't be called `ok`, and `note` says why; the first note stays, `examples` are added. */
  unsettled(
    id: InvariantId,
    verdict: 'waiting' | 'not_provable' | 'not_checked',
    note: string,
    examples: readonly Example[] = [],
  ): void {
    const finding = this.#of(id);
    finding.otherwise = verdict;
    finding.note ??= note;
    if (finding.broken === 0) for (const example of examples) keep(finding, example);
  }

  /** Nothing is wrong with `example`, and whoever reads the report should know of it; the first note stays. */
  noted(id: InvariantId, note: string, example: Example): void {
    const finding = this.#of(id);
    finding.note ??= note;
    if (finding.broken === 0) keep(finding, example);
  }

  /** These were judged by a walk that took `ms`. */
  took(ids: readonly InvariantId[], ms: number): void {
    for (const id of ids) this.#of(id).ms = Math.round(ms);
  }

  /** The report, in the order of the catalogue. */
  report(ms: number): AuditReport {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Object.keys forgets the names of the keys.
    const invariants = (Object.keys(INVARIANTS) as InvariantId[]).map((id) => this.#reportOf(id));
    return { verdict: verdictOf(invariants), invariants, ms: Math.round(ms) };
  }

  #reportOf(id: InvariantId): InvariantReport {
    const { checked, broken, examples, otherwise, note, ms } = this.#of(id);
    const verdict = broken > 0 ? 'broken' : otherwise;
    return { id, title: INVARIANTS[id], verdict, checked, broken, examples, note, ms };
  }

  #of(id: InvariantId): Finding {
    const known = this.#byId.get(id);
    if (known !== undefined) return known;
    const made: Finding = { checked: 0, broken: 0, ms: 0, examples: [], otherwise: 'ok', note: null };
    this.#byId.set(id, made);
    return made;
  }
}

function keep({ examples }: Finding, example: Example): void {
  if (examples.length < EXAMPLES_MAX) examples.push(example);
}

function verdictOf(invariants: readonly InvariantReport[]): AuditReport['verdict'] {
  const verdicts = new Set(invariants.map(({ verdict }) => verdict));
  if (verdicts.has('broken')) return 'broken';
  return verdicts.has('waiting') || verdicts.has('not_provable') ? 'not_provable' : 'ok';
}
