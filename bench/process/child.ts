import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { BenchError } from '../bench-error.ts';
import { isLost } from './lost.ts';
import type { Owner } from './owner.ts';

/** What a program of the bench lets its parent call. Arguments and answers travel by structured clone. */
type Methods<M> = { readonly [K in keyof M]: (argument: never) => unknown };

interface Call {
  readonly id: number;
  readonly name: string;
  readonly argument: unknown;
}

interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

/** Answers the parent's calls from now on, and ends when the parent does. For the main module of a child. */
export function serveParent<M extends Methods<M>>(methods: M): void {
  const table = new Map<string, (argument: never) => unknown>(Object.entries(methods));
  process.on('message', (call: Call) => {
    const method = table.get(call.name);
    Promise.resolve()
      .then(() => {
        if (method === undefined) throw new Error(`no method ${call.name}`);
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- `Child.call` has the type of this very table.
        return method(call.argument as never);
      })
      .then(
        (value) => process.send?.({ id: call.id, value } satisfies Answer),
        (error: unknown) => {
          const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
          process.send?.({ id: call.id, error: text } satisfies Answer);
        },
      );
  });
  // The parent tells which server is gone; anything else is a fault of ours, with where it came from.
  process.once('uncaughtException', (error) => {
    process.stderr.write(`${(isLost(error) ? error.message : error.stack) ?? error.name}\n`);
    process.exit(1);
  });
  process.once('disconnect', () => process.exit());
}

/** A program of the bench in a process of its own, so that its CPU can be told from ours; `call` runs one of its methods. */
export class Child<M extends Methods<M>> {
  readonly pid: number;
  readonly #process: ChildProcess;
  readonly #name: string;
  readonly #open = new Map<number, PromiseWithResolvers<unknown>>();
  #lastId = 0;
  #isStopping = false;

  /**
   * `program`: a file, from the folder bench/. A child that ends by itself ends the bench: its figures would be
   * worth nothing. `nodeFlags`: what Node is given besides.
   */
  constructor(program: string, owner: Owner, nodeFlags: readonly string[] = []) {
    this.#name = program;
    const file = fileURLToPath(new URL(`../${program}`, import.meta.url));
    // Its words go to our standard error: standard output is the report's.
    this.#process = spawn(process.execPath, [...nodeFlags, file], {
      stdio: ['ignore', 2, 2, 'ipc'],
      serialization: 'advanced',
    });
    const { pid } = this.#process;
    if (pid === undefined) throw new Error(`${program} could not be started`);
    this.pid = pid;
    owner.adopt(pid);
    this.#process.on('message', (answer: Answer) => this.#settle(answer));
    this.#process.once('exit', (code, signal) => {
      const error = new BenchError(`${program}, a process of the bench, ended with ${signal ?? code}`);
      for (const call of this.#open.values()) call.reject(error);
      if (!this.#isStopping) owner.fail(error);
    });
  }

  /** Rejects with the child's own error. */
  call<K extends keyof M & string>(
    name: K,
    ...[argument]: Parameters<M[K]>
  ): Promise<Awaited<ReturnType<M[K]>>> {
    const id = ++this.#lastId;
    const answer = Promise.withResolvers<unknown>();
    this.#open.set(id, answer);
    this.#process.send({ id, name, argument } satisfies Call, (error) => {
      if (error) this.#settle({ id, error: error.message });
    });
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the child's table has the type `M`.
    return answer.promise as Promise<Awaited<ReturnType<M[K]>>>;
  }

  /** Ends it, at once: nothing in it has to be saved. */
  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#isStopping = true;
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
  }

  #settle({ id, value, error }: Answer): void {
    const call = this.#open.get(id);
    this.#open.delete(id);
    if (error === undefined) call?.resolve(value);
    else call?.reject(new Error(`${this.#name}: ${error}`));
  }
}
