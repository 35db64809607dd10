import { chunksOf } from '../../src/chunks.ts';
import { CreditLocksPg } from '../../src/ledger/credit-locks.ts';
import { SettlementsPg } from '../../src/ledger/settlements.ts';
import type { LockAnswer, LockRequest } from '../../src/ledger/types.ts';
import type { Directory } from '../../src/network/types.ts';
import { Database } from '../../src/postgres/database.ts';
import { quietLog } from '../../test/support/ledger.ts';
import type { Teardown } from '../../test/support/servers.ts';
import { makeJobMessages } from '../world/jobs.ts';
import { lockRequestOf, settleRequestOf } from '../world/lock-requests.ts';
import { NODES } from '../world/names.ts';
import type { World } from '../world/world.ts';
import type { Load } from './limits-rate.ts';

/** Connections of single transactions. */
const SINGLE_CONNECTIONS = [1, 8, 32] as const;
/** Single calls under way per connection, so that none of them waits for us: 32 on 8, as in *one at a time*. */
const LANES_PER_CONNECTION = 4;
const BATCHES = [1, 32, 256, 512] as const;
const SESSION = 1_700_000_000_000;
/** Of each result. */
const TOKENS = { inputTokens: 180, outputTokens: 64 };

/** What the ledger can do: its loads, and the two that one target compares. */
export interface LedgerLoads {
  readonly all: readonly Load[];
  /** The product's own batch on one connection. */
  readonly batched: Load;
  /** One lock per transaction on 8 connections. */
  readonly single: Load;
}

/** Loads of `lock_batch` and `settle_batch`, through the product's own classes and roles. */
export function ledgerLoads(t: Teardown, world: World, directory: Directory): LedgerLoads {
  const { servers, ledger, line } = world.config;
  const open = (url: string, connectionsMax: number): Database => {
    const database = new Database({ ...ledger, ...servers, url, connectionsMax }, quietLog);
    t.after(() => database.close());
    return database;
  };
  const locksOn = new Map(
    SINGLE_CONNECTIONS.map((connections) => [
      connections,
      new CreditLocksPg(ledger, quietLog, open(servers.postgresUrl, connections)),
    ]),
  );
  const lock = (connections: (typeof SINGLE_CONNECTIONS)[number], batch: number, lanes: number): Load => {
    const locks = locksOn.get(connections);
    return {
      id: `lock/${batch}/${connections}`,
      name: `credit locks, ${batch} a commit, ${shownConnections(connections)}`,
      perCall: batch,
      lanes,
      prepare: async (count) =>
        Array.from({ length: count }, () => {
          const requests = lockRequests(directory, batch);
          return async () => expectNew((await locks?.lockBatch(requests)) ?? []);
        }),
    };
  };
  const settle = (connections: 1 | 8, batch: number): Load => {
    const settlements = new SettlementsPg(quietLog, open(servers.postgresSettlerUrl ?? '', connections));
    return {
      id: `settle/${batch}/${connections}`,
      name: `settlements, ${batch} a commit, ${shownConnections(connections)}`,
      perCall: batch,
      lanes: connections === 1 ? 1 : connections * LANES_PER_CONNECTION,
      prepare: async (count) => {
        const requests = Array.from({ length: count }, () => lockRequests(directory, batch));
        const locks = locksOn.get(1);
        for (const chunk of chunksOf(requests.flat(), line.batchJobsMax))
          expectNew((await locks?.lockBatch(chunk)) ?? []);
        return requests.map((own) => async () => {
          const answers = await settlements.settleBatch(
            own.map((request) => settleRequestOf(request, TOKENS)),
          );
          if (answers.some(({ kind }) => kind !== 'settled')) throw new Error('a lock was not settled');
        });
      },
    };
  };
  const batched = lock(1, line.batchJobsMax, 1);
  const single = lock(8, 1, 8 * LANES_PER_CONNECTION);
  const all = [
    ...SINGLE_CONNECTIONS.map((connections) => lock(connections, 1, connections * LANES_PER_CONNECTION)),
    ...BATCHES.filter((batch) => batch > 1).map((batch) => lock(1, batch, 1)),
    ...BATCHES.map((batch) => settle(batch === 1 ? 8 : 1, batch)),
  ];
  return { all, batched, single };
}

function shownConnections(connections: number): string {
  return connections === 1 ? '1 connection' : `${connections} connections`;
}

function lockRequests(directory: Directory, count: number): LockRequest[] {
  return makeJobMessages(count).map(({ job, body }, i) =>
    lockRequestOf(directory, job, body, { node: NODES[i % NODES.length] ?? '', session: SESSION }),
  );
}

/** Throws unless every lock is a new one. */
function expectNew(answers: readonly LockAnswer[]): void {
  const other = answers.find(({ kind }) => kind !== 'new');
  if (answers.length === 0 || other !== undefined)
    throw new Error(`a lock was answered ${other?.kind ?? 'nothing'}`);
}
