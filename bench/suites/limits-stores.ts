import { chunksOf } from '../../src/chunks.ts';
import { newUuidV7 } from '../../src/ids.ts';
import type { RequestDocument } from '../../src/traces/types.ts';
import type { LeaseName } from '../../src/workers/types.ts';
import { makeJobMessages } from '../world/jobs.ts';
import { MODEL, NODES } from '../world/names.ts';
import type { Registrar } from '../world/registrar.ts';
import { traceDocument } from '../world/trace-documents.ts';
import type { Load } from './limits-rate.ts';

/** Calls under way: of single ones so many that the wire is never idle, of batches as many as the product has. */
const SINGLE_LANES = 32;
const BATCH_LANES = 2;
/** MongoDB connections that these loads need. */
export const MONGO_CONNECTIONS = SINGLE_LANES;

const RESERVE_BATCHES = [1, 32, 256, 512] as const;
const RELEASE_BATCHES = [1, 512] as const;
const TRACE_BATCHES = [1, 100, 512] as const;

function lanesOf(batch: number): number {
  return batch === 1 ? SINGLE_LANES : BATCH_LANES;
}

/** Slot reservations and releases, by the product's own scripts in Redis. The fleet must be known and free. */
export function slotLoads({ slots }: Registrar): Load[] {
  let taken: LeaseName[] = [];
  const reserve = async (batch: number): Promise<void> => {
    const requests = Array.from({ length: batch }, () => ({ jobId: newUuidV7(), attempt: 1, pool: MODEL }));
    const answers = await slots.reserveBatch(requests);
    for (const [i, answer] of answers.entries()) {
      if (answer.kind !== 'got') throw new Error(`a slot was answered ${answer.kind}`);
      const { node, session } = answer;
      taken.push({ jobId: requests[i]?.jobId ?? '', attempt: 1, node, session });
    }
  };
  const release = async (leases: readonly LeaseName[]): Promise<void> => {
    if ((await slots.releaseBatch(leases)) !== leases.length) throw new Error('a lease was not there');
  };
  const reserves = RESERVE_BATCHES.map((batch) => ({
    id: `reserve/${batch}`,
    name: `slot reservations, ${batch} a call`,
    perCall: batch,
    lanes: lanesOf(batch),
    prepare: async (count: number) => Array.from({ length: count }, () => () => reserve(batch)),
    undo: async () => {
      for (const chunk of chunksOf(taken, RESERVE_BATCHES[3])) await release(chunk);
      taken = [];
    },
  }));
  const releases = RELEASE_BATCHES.map((batch) => ({
    id: `release/${batch}`,
    name: `slot releases, ${batch} a call`,
    perCall: batch,
    lanes: lanesOf(batch),
    prepare: async (count: number) => {
      for (let i = 0; i < (count * batch) / RESERVE_BATCHES[3]; i++) await reserve(RESERVE_BATCHES[3]);
      const chunks = chunksOf(taken, batch);
      taken = [];
      return chunks.map((chunk) => () => release(chunk));
    },
  }));
  return [...reserves, ...releases];
}

/** Traces, by the product's own sink: `w: majority, j: true`, the document of a dispatched job with its 1 KiB body. */
export function traceLoads({ traces }: Registrar): Load[] {
  return TRACE_BATCHES.map((batch) => ({
    id: `trace/${batch}`,
    name: `trace inserts, ${batch} a call`,
    perCall: batch,
    lanes: lanesOf(batch),
    prepare: async (count: number) =>
      Array.from({ length: count }, () => {
        const documents = traceDocuments(batch);
        return () => traces.writeRequests(documents);
      }),
  }));
}

function traceDocuments(count: number): RequestDocument[] {
  return makeJobMessages(count).map(({ job, body }, i) =>
    traceDocument(job, body, {
      attempt: 1,
      node: NODES[i % NODES.length] ?? '',
      session: 1_700_000_000_000,
      isWarm: true,
      slotsFree: 4_096,
      workersFree: NODES.length,
      receivedAtMs: 1_700_000_000_000 + i,
      lockedAtMs: 1_700_000_000_001,
      dispatchedAtMs: 1_700_000_000_002,
      dispatchMs: 2.5,
    }),
  );
}
