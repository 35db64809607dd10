import type { CancelTimer, Clock } from '../clock.ts';
import { isRefusal, StoreError } from '../errors.ts';
import type { Directory } from '../network/types.ts';
import type { Log, Service } from '../ops/types.ts';

/** Nodes whose queues could not be declared are tried again after this, in milliseconds. */
const RETRY_MS = 500;
/** The same where the broker refuses them. */
const REFUSED_RETRY_MS = 5_000;

interface NodeQueuesDeps {
  readonly directory: Directory;
  /** Declares both queues of a node; may be called again and again. */
  readonly declareNode: (node: string) => Promise<void>;
  /** Makes the next `declareNode` of a node ask the broker, though it was declared before. */
  readonly forgetNode: (node: string) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Declares the queues of every registered node, as nodes come: a worker waits for them and may not declare its own. */
export class NodeQueues implements Service {
  readonly #deps: NodeQueuesDeps;
  readonly #declared = new Set<string>();
  /** Nodes whose queues the broker refuses. */
  readonly #refused = new Set<string>();
  #endSubscription: () => void = () => undefined;
  #timer: CancelTimer | null = null;
  #running: Promise<void> | null = null;
  #mustRunAgain = false;
  #isStopped = false;

  constructor(deps: NodeQueuesDeps) {
    this.#deps = deps;
  }

  /** A dispatch came back because the node's queue was deleted: without a new one every job given to that node would fail. */
  declareAgain(node: string): void {
    this.#deps.forgetNode(node);
    this.#declared.delete(node);
    this.#run();
  }

  async start(): Promise<void> {
    this.#endSubscription = this.#deps.directory.onChange(() => this.#run());
    this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#endSubscription();
    this.#timer?.();
    await this.#running;
  }

  #run(): void {
    this.#mustRunAgain = true;
    this.#running ??= this.#declareAll().finally(() => {
      this.#running = null;
    });
  }

  async #declareAll(): Promise<void> {
    while (this.#mustRunAgain && !this.#isStopped) {
      this.#mustRunAgain = false;
      const missing = this.#deps.directory
        .nodes()
        .filter(({ id, lifecycle }) => lifecycle !== 'retired' && !this.#declared.has(id));
      const declared = await Promise.allSettled(missing.map(({ id }) => this.#declare(id)));
      const errors = declared.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
      for (const error of errors) if (!(error instanceof StoreError || isRefusal(error))) throw error;
      if (errors.length === 0) continue;
      // One refusal must not make all others wait for as long.
      this.#tryAgain(errors.every(isRefusal) ? REFUSED_RETRY_MS : RETRY_MS);
    }
  }

  /** In place of what was planned before: each try is of all that are missing. */
  #tryAgain(afterMs: number): void {
    this.#timer?.();
    this.#timer = this.#deps.clock.after(afterMs, () => {
      this.#timer = null;
      this.#run();
    });
  }

  /** Where the broker refuses, only this node is the worse for it; that is told once. */
  async #declare(node: string): Promise<void> {
    try {
      await this.#deps.declareNode(node);
    } catch (error) {
      if (isRefusal(error) && !this.#refused.has(node)) {
        this.#refused.add(node);
        const { code, message: reason } = error;
        this.#deps.log.error({ node, code, reason }, 'the queues of a node cannot be declared');
      }
      throw error;
    }
    this.#declared.add(node);
    this.#refused.delete(node);
  }
}
