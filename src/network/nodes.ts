import type { Database } from '../postgres/database.ts';
import { changeRecords } from '../postgres/records.ts';
import { type NodeRow, nodeOf, type StrikeRow, strikeOf } from './rows.ts';
import type { ExplainedStrike, Node } from './types.ts';

/**
 * The registered machines, for operators: role tollgate_operator. Throws TG_NOT_FOUND and TG_ALREADY_EXISTS as
 * TollgateError, StoreError when PostgreSQL is away. Every change reaches the directory of each coordinator by itself.
 */
export class Nodes {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Registers a node for `models` (names that exist), or replaces models, region and memory of the same node with the same owner
   * and key. `publicKey`: raw 32 bytes of Ed25519, never used by another node. A new node begins in `lifecycle`; of a known one
   * it stays as it is. Without `region` or `vramGb` (of all its cards, in GB) no job that asks for one goes there. Its queues and
   * RabbitMQ user are made elsewhere.
   */
  async register(node: {
    readonly id: string;
    readonly owner: string;
    readonly publicKey: Buffer;
    readonly models: readonly string[];
    readonly lifecycle?: 'probation' | 'active';
    readonly region?: string | null;
    readonly vramGb?: number | null;
  }): Promise<void> {
    await changeRecords(this.#db, 'register_node', [
      node.id,
      node.owner,
      node.publicKey,
      node.lifecycle ?? 'probation',
      node.models,
    ]);
    await changeRecords(this.#db, 'set_node_place', [node.id, node.region ?? null, node.vramGb ?? null]);
  }

  /** Moves a node between `probation` and `active`. A retired one is TG_NOT_FOUND. Idempotent. */
  async setLifecycle(id: string, lifecycle: 'probation' | 'active'): Promise<void> {
    await changeRecords(this.#db, 'set_node_lifecycle', [id, lifecycle]);
  }

  /** Retires a node for good: no worker of it is eligible any more. Idempotent. */
  async retire(id: string): Promise<void> {
    await changeRecords(this.#db, 'set_node_lifecycle', [id, 'retired']);
  }

  /** Gives it no new jobs; what runs there should have ended in `deadlineMs`. Again: another deadline. */
  async drain(id: string, deadlineMs: number): Promise<void> {
    await changeRecords(this.#db, 'drain_node', [id, deadlineMs]);
  }

  /** Ends its drain. Idempotent. */
  async undrain(id: string): Promise<void> {
    await changeRecords(this.#db, 'drain_node', [id, null]);
  }

  /** All nodes by id, the retired ones too; their times are milliseconds from now. */
  async list(): Promise<Node[]> {
    return (await this.#db.query<NodeRow>('read_changed_nodes', [0])).map((row) => nodeOf(row, 0));
  }

  /** What a node was blamed for, newest first, at most 200; `halfLifeMs` as the coordinators have it. */
  async strikes(id: string, halfLifeMs: number): Promise<ExplainedStrike[]> {
    const rows = await this.#db.query<StrikeRow>('explain_strikes', [id, halfLifeMs]);
    return rows.map(strikeOf);
  }
}
