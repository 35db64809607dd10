import { createHistogram } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { digestKeyOf } from '../../src/contracts/canonical.ts';
import type { FleetMessage } from '../../src/contracts/fleet.ts';
import { admit } from '../../src/dispatcher/admit.ts';
import { readCancel } from '../../src/dispatcher/cancel-intake.ts';
import { refusalEvent } from '../../src/dispatcher/documents.ts';
import { refusalReply } from '../../src/dispatcher/replies.ts';
import { refusedResultEvent } from '../../src/dispatcher/result-documents.ts';
import { verify } from '../../src/dispatcher/verify.ts';
import { CODES, type Refusal } from '../../src/errors.ts';
import { FleetIntake } from '../../src/workers/fleet-intake.ts';
import type { FleetRegistry } from '../../src/workers/types.ts';
import { arrivalOf, NO_LIMITS } from '../dispatcher/samples.ts';
import { cancelInput } from './cancel-inputs.ts';
import { FleetInputs } from './fleet-inputs.ts';
import { deliveryOf, type Input } from './input.ts';
import { jobInput } from './job-inputs.ts';
import { admittedFault, cancelFault, fleetFault, jobFault, resultFault } from './oracle.ts';
import { FuzzDirectory } from './people.ts';
import { Random } from './random.ts';
import { ResultInputs } from './result-inputs.ts';

/** What came of an input: refused with this, or accepted; `fault`: why it must not have been accepted, null if it may. */
export type Verdict =
  | { readonly kind: 'refused'; readonly refusal: Refusal; readonly isRemembered: boolean }
  | { readonly kind: 'accepted'; readonly fault: string | null };

/** An input that was not handled as it must be. `body`: as base64, at most the beginning. */
export interface Finding {
  readonly index: number;
  readonly kind: Input['kind'];
  readonly mutation: string;
  /** `crash`: it threw. `accepted`: it must not have been. `refused`: it must not have been. `code`: a no without code or field, or another code. */
  readonly what: 'crash' | 'accepted' | 'refused' | 'code';
  readonly detail: string;
  readonly body: string;
}

/** What a run came to. Times in microseconds, of handling alone; the rate counts all, making of inputs included. */
export interface InProcessReport {
  readonly seed: number;
  readonly inputs: number;
  readonly seconds: number;
  readonly inputsPerSecond: number;
  /** CPU time of this process over the run: what the rate would be on a machine that does nothing else. */
  readonly cpuSeconds: number;
  /** Kind and mutation → inputs. */
  readonly byClass: Readonly<Record<string, number>>;
  /** Code → refusals. */
  readonly refusedByCode: Readonly<Record<string, number>>;
  readonly accepted: number;
  readonly crashes: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
  /** Heap after a collection, at a tenth of the run and at its end. */
  readonly heapBeforeMib: number;
  readonly heapAfterMib: number;
  readonly findings: readonly Finding[];
}

/** Where made inputs have their ids' time: any moment will do, for admission does not look at it. */
const NOW_MS = 1_790_000_000_000;
const FINDINGS_MAX = 20;
const BODY_SHOWN_MAX = 2_000;
/** Longest field and message of a refusal: what a stranger writes may come back to him, but not at any length. */
const FIELD_LENGTH_MAX = 160;
const MESSAGE_LENGTH_MAX = 500;
const MIB = 1_048_576;
/** Only probation and the sample make `verify` look at a signature. */
const RESULT_BOUNDS = { prefetch: 1, verifyAmountMicro: Number.MAX_SAFE_INTEGER };
/** An arrival without its delivery. */
const BLANK = arrivalOf({});

/** Everything that an input is fed to, with a directory in memory. */
export class Target {
  readonly directory: FuzzDirectory;
  readonly #digestKey = digestKeyOf('a key for tests, long enough to be one');
  readonly #intake: FleetIntake;
  #applied: { readonly message: FleetMessage; readonly pools: readonly string[] } | null = null;
  #turnedAway: Refusal | null = null;

  constructor(directory: FuzzDirectory) {
    this.directory = directory;
    const registry: FleetRegistry = {
      apply: (message, pools) => {
        this.#applied = { message, pools };
        return Promise.resolve({ kind: 'applied' });
      },
      takeLost: () => Promise.resolve([]),
      forget: () => Promise.resolve(),
      list: () => Promise.resolve([]),
      // oxlint-disable-next-line no-empty-function
      async *occupancy() {},
      sessions: () => Promise.resolve(() => 'unknown'),
      state: () => Promise.resolve('ready'),
      cells: () => Promise.resolve([]),
      cellOf: () => 0,
    };
    this.#intake = new FleetIntake(
      (id) => {
        const node = directory.node(id);
        return node && { ...node, poolsOf: (model) => [model], admission: 'open' };
      },
      registry,
      { fleetMessage: () => undefined, fleetRefused: () => undefined },
      {
        onRefused: (refused) => {
          // The rest of such a message counts.
          if (refused.code !== 'TG_FLEET_MODEL') this.#turnedAway = refused;
        },
        onOldSession: () => undefined,
      },
    );
  }

  /** Hands an input to the code that judges its kind. Throws what that code throws. */
  judge(input: Input): Promise<Verdict> {
    if (input.kind === 'job') return Promise.resolve(this.#judgeJob(input));
    if (input.kind === 'cancel') return Promise.resolve(this.#judgeCancel(input));
    return input.kind === 'result' ? this.#judgeResult(input) : this.#judgeFleet(input);
  }

  #judgeJob(input: Input): Verdict {
    const arrival = { ...BLANK, delivery: deliveryOf(input), source: input.source };
    const admission = admit(arrival, {
      directory: this.directory,
      limits: NO_LIMITS,
      digestKey: this.#digestKey,
    });
    if (admission.kind === 'admitted')
      return { kind: 'accepted', fault: admittedFault(input, admission.admitted) };
    if (admission.kind === 'remember') {
      const { refusal: why, known } = admission;
      const fault = jobFault(input, known);
      if (fault !== null) return { kind: 'accepted', fault: `the arbiter is asked to remember it: ${fault}` };
      return { kind: 'refused', refusal: why, isRemembered: true };
    }
    // A job that opens its pool is neither in nor out yet: the pool is opened and it is asked again.
    if (admission.kind === 'unopened') return { kind: 'accepted', fault: null };
    const { outcome } = admission;
    if (outcome.kind !== 'refused' && outcome.kind !== 'dead') throw new Error(`admit said ${outcome.kind}`);
    // What the sender and the trace would get of it.
    const state = outcome.kind === 'refused' ? outcome.state : 'refused';
    JSON.stringify([
      refusalReply(null, state, outcome.refusal),
      refusalEvent(arrival, outcome.refusal, null, 0),
    ]);
    return { kind: 'refused', refusal: outcome.refusal, isRemembered: false };
  }

  #judgeCancel(input: Input): Verdict {
    const read = readCancel(deliveryOf(input), { directory: this.directory, limits: NO_LIMITS });
    if (read.kind !== 'wanted') return { kind: 'refused', refusal: read.why, isRemembered: false };
    return { kind: 'accepted', fault: cancelFault(input, read.wanted.request) };
  }

  async #judgeResult(input: Input): Promise<Verdict> {
    const bounds = { ...RESULT_BOUNDS, verifySampleShare: input.isStrict ? 1 : 0 };
    const deps = {
      directory: this.directory,
      bounds,
      random: () => 0.5,
    };
    const { on, off } = await verify([deliveryOf(input)], deps);
    const [no] = off;
    const [yes] = on;
    if (no !== undefined) {
      JSON.stringify(refusedResultEvent(no, 0));
      return { kind: 'refused', refusal: no.refusal, isRemembered: false };
    }
    if (yes === undefined) throw new Error('verify gave no answer');
    return { kind: 'accepted', fault: resultFault(input, yes.result, this.directory.node(yes.result.node)) };
  }

  async #judgeFleet(input: Input): Promise<Verdict> {
    this.#applied = null;
    this.#turnedAway = null;
    await this.#intake.take(deliveryOf(input));
    if (this.#turnedAway !== null) return { kind: 'refused', refusal: this.#turnedAway, isRemembered: false };
    const applied = this.#appliedNow();
    if (applied === null) throw new Error('the intake neither refused nor applied');
    const { message, pools } = applied;
    return { kind: 'accepted', fault: fleetFault(input, message, pools, this.directory.node(message.node)) };
  }

  /** Written by the registry behind an await, which the compiler cannot see. */
  #appliedNow() {
    return this.#applied;
  }
}

/** What is wrong with a verdict, or null. */
export function findingOf(input: Input, verdict: Verdict): Pick<Finding, 'what' | 'detail'> | null {
  if (verdict.kind === 'accepted') {
    if (input.expects === 'refused') return { what: 'accepted', detail: 'it must be refused' };
    return verdict.fault === null ? null : { what: 'accepted', detail: verdict.fault };
  }
  const { code, field, message } = verdict.refusal;
  if (input.expects === 'accepted')
    return { what: 'refused', detail: `${code} ${String(field)}: ${message}` };
  if (!Object.hasOwn(CODES, code)) return { what: 'code', detail: `unknown code ${code}` };
  if (field === null || field === '' || field.length > FIELD_LENGTH_MAX)
    return { what: 'code', detail: `field ${String(field)}` };
  if (message.length > MESSAGE_LENGTH_MAX) return { what: 'code', detail: `a message of ${message.length}` };
  if (input.code !== null && input.code !== code)
    return { what: 'code', detail: `${code}, not ${input.code}` };
  return null;
}

/** Makes inputs by index: the same seed makes the same ones. */
export class Inputs {
  readonly directory: FuzzDirectory;
  readonly #seed: number;
  readonly #results: ResultInputs;
  readonly #fleet: FleetInputs;

  constructor(seed: number) {
    this.#seed = seed;
    const random = new Random(seed, -1);
    this.directory = new FuzzDirectory(random);
    this.#results = new ResultInputs(random, this.directory, NOW_MS);
    this.#fleet = new FleetInputs(random, this.directory, NOW_MS);
  }

  make(index: number): Input {
    const random = new Random(this.#seed, index);
    const share = random.next();
    if (share < 0.5) return jobInput(random, NOW_MS);
    if (share < 0.55) return cancelInput(random, NOW_MS);
    return share < 0.85 ? this.#results.make(random) : this.#fleet.make(random);
  }
}

function heapMib(): number {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  collect();
  return process.memoryUsage().heapUsed / MIB;
}

/** Feeds `count` inputs of `seed` to admission, verification and the fleet intake, in this process and without any server. */
export async function fuzzInProcess(seed: number, count: number): Promise<InProcessReport> {
  const inputs = new Inputs(seed);
  const target = new Target(inputs.directory);
  const tally = new Tally();
  const times = createHistogram();
  const startMs = performance.now();
  const startCpu = process.cpuUsage();
  let heapBeforeMib = 0;
  for (let index = 0; index < count; index++) {
    if (index === Math.floor(count / 10)) heapBeforeMib = heapMib();
    const input = inputs.make(index);
    const beginMs = performance.now();
    let verdict: Verdict | Error;
    try {
      verdict = await target.judge(input);
    } catch (error) {
      verdict = error instanceof Error ? error : new Error(String(error));
    }
    times.record(Math.max(1, Math.round((performance.now() - beginMs) * 1e6)));
    tally.count(index, input, verdict);
  }
  const seconds = (performance.now() - startMs) / 1_000;
  const { user, system } = process.cpuUsage(startCpu);
  return {
    seed,
    inputs: count,
    seconds,
    inputsPerSecond: Math.round(count / seconds),
    cpuSeconds: (user + system) / 1e6,
    ...tally.sums(),
    p50Us: times.percentile(50) / 1_000,
    p99Us: times.percentile(99) / 1_000,
    maxUs: times.max / 1_000,
    heapBeforeMib,
    heapAfterMib: heapMib(),
  };
}

/** Counts verdicts and keeps the first findings. */
export class Tally {
  readonly #byClass = new Map<string, number>();
  readonly #byCode = new Map<string, number>();
  readonly #findings: Finding[] = [];
  #accepted = 0;
  #crashes = 0;

  count(index: number, input: Input, verdict: Verdict | Error): void {
    add(this.#byClass, `${input.kind}: ${input.mutation}`);
    const isCrash = verdict instanceof Error;
    if (isCrash) this.#crashes += 1;
    else if (verdict.kind === 'accepted') this.#accepted += 1;
    else add(this.#byCode, verdict.refusal.code);
    const wrong = isCrash
      ? { what: 'crash' as const, detail: verdict.stack ?? verdict.message }
      : findingOf(input, verdict);
    if (wrong === null || this.#findings.length >= FINDINGS_MAX) return;
    const { kind, mutation, body } = input;
    this.#findings.push({
      index,
      kind,
      mutation,
      ...wrong,
      body: body.toString('base64').slice(0, BODY_SHOWN_MAX),
    });
  }

  sums(): Pick<InProcessReport, 'byClass' | 'refusedByCode' | 'accepted' | 'crashes' | 'findings'> {
    return {
      byClass: sorted(this.#byClass),
      refusedByCode: sorted(this.#byCode),
      accepted: this.#accepted,
      crashes: this.#crashes,
      findings: this.#findings,
    };
  }
}

function add(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

function sorted(counts: ReadonlyMap<string, number>): Record<string, number> {
  return Object.fromEntries([...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
