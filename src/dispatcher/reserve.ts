import { poolOfJob } from '../contracts/names.ts';
import type { Directory, ModelVersion } from '../network/types.ts';
import type { ReserveAnswer, SlotLeases } from '../workers/types.ts';
import { answered } from './answered.ts';
import type { Admitted, Exit, Reserved, Resumed, Split, WaitingRoom } from './types.ts';

interface ReserveDeps {
  readonly slots: SlotLeases;
  readonly directory: Pick<Directory, 'model'>;
}

type Attempt = Admitted | Resumed;

/**
 * Takes one slot for each attempt, in the order of the batch: one script call for all of them. A later attempt is not given to a
 * node that had one before: where only such nodes are left, the job's fallbacks are asked, and then those nodes again. One without
 * a slot goes back to its waiting room; its pool is marked as waiting in Redis, so the next free slot wakes it.
 * Source: design [15], [16].
 */
export async function reserve(attempts: readonly Attempt[], deps: ReserveDeps): Promise<Split<Reserved>> {
  if (attempts.length === 0) return { on: [], off: [] };
  const on: Reserved[] = [];
  const off: Exit[] = [];
  const placed = new Map<WaitingRoom, number>();
  const seat = (one: Attempt, answer: ReserveAnswer): void => {
    if (answer.kind === 'got' || answer.kind === 'had') {
      on.push({ admitted: one, choice: answer, isTaken: answer.kind === 'got' });
      placed.set(one.arrival.room, (placed.get(one.arrival.room) ?? 0) + 1);
    } else off.push({ arrival: one.arrival, outcome: { kind: 'waiting' } });
  };
  const answers = await ask(attempts, deps.slots, true);
  const stuck: Resumed[] = [];
  for (const [one, answer] of answered(attempts, answers)) {
    if (one.resumed !== null && (answer.kind === 'tried' || answer.kind === 'none')) stuck.push(one);
    else seat(one, answer);
  }
  for (const one of stuck) {
    const [seated, answer] = await askFurther(one, deps);
    seat(seated, answer);
  }
  for (const [room, count] of placed) room.placed(count);
  return { on, off };
}

function ask(attempts: readonly Attempt[], slots: SlotLeases, isChoosy: boolean): Promise<ReserveAnswer[]> {
  return slots.reserveBatch(
    attempts.map(({ jobId, attempt, job: { constraints }, model, resumed }) => ({
      jobId,
      attempt,
      // A fallback keeps the constraint.
      pool: poolOfJob({ model: model.model, constraints }),
      tried: isChoosy ? (resumed?.tried ?? []) : [],
    })),
  );
}

/** The fallbacks in their order, then the nodes that were tried. One call each: this is rare, and never for a first attempt. */
async function askFurther(
  one: Resumed,
  { slots, directory }: ReserveDeps,
): Promise<[Resumed, ReserveAnswer]> {
  const fallbacks = (one.job.fallbacks ?? [])
    .map((name) => directory.model(name))
    .filter((version): version is ModelVersion => version !== undefined && mayRun(one, version));
  for (const model of fallbacks) {
    const other = { ...one, model };
    const [answer] = await ask([other], slots, true);
    if (answer?.kind === 'got' || answer?.kind === 'had') return [other, answer];
  }
  const [again] = await ask([one], slots, false);
  return [one, again ?? { kind: 'none' }];
}

/** Within the model's limits and no dearer than what was locked; PostgreSQL has the last word. */
function mayRun({ job: { limits }, model }: Resumed, other: ModelVersion): boolean {
  return (
    other.id !== model.id &&
    limits.input_tokens_max <= other.inputTokensMax &&
    limits.output_tokens_max <= other.outputTokensMax &&
    costMicro(limits, other) <= costMicro(limits, model)
  );
}

/** The price of the limits, in micro-credits per million; infinite for a model without a price. */
function costMicro(
  limits: { readonly input_tokens_max: number; readonly output_tokens_max: number },
  { inputPriceMicro, outputPriceMicro }: ModelVersion,
): bigint {
  if (inputPriceMicro === null || outputPriceMicro === null) return 2n ** 62n;
  return (
    BigInt(limits.input_tokens_max) * inputPriceMicro + BigInt(limits.output_tokens_max) * outputPriceMicro
  );
}
