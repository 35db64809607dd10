import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CpuProfile } from './profile.ts';

/** Between two samples, in microseconds. */
const SAMPLE_US = 500;

interface Answer {
  readonly id?: number;
  readonly result?: { readonly profile?: CpuProfile };
  readonly error?: { readonly message: string };
}

/** Takes CPU profiles of a running Node process by its inspector: of a run and not of start and warm-up. */
export class Profiler {
  readonly #socket: WebSocket;
  readonly #folder: string;
  readonly #open = new Map<number, PromiseWithResolvers<Answer>>();
  #lastId = 0;

  constructor(socket: WebSocket, folder: string) {
    this.#socket = socket;
    this.#folder = folder;
    socket.addEventListener('message', ({ data }) => {
      const answer: Answer = JSON.parse(String(data));
      if (answer.id === undefined) return;
      this.#open.get(answer.id)?.resolve(answer);
      this.#open.delete(answer.id);
    });
  }

  async start(): Promise<void> {
    await this.#call('Profiler.enable');
    await this.#call('Profiler.setSamplingInterval', { interval: SAMPLE_US });
    await this.#call('Profiler.start');
  }

  /** Ends the profile and keeps it as `<name>.cpuprofile`. */
  async stop(name: string): Promise<void> {
    const { result } = await this.#call('Profiler.stop');
    writeFileSync(join(this.#folder, `${name}.cpuprofile`), JSON.stringify(result?.profile));
  }

  close(): void {
    this.#socket.close();
  }

  async #call(method: string, params: object = {}): Promise<Answer> {
    const id = ++this.#lastId;
    const answer = Promise.withResolvers<Answer>();
    this.#open.set(id, answer);
    this.#socket.send(JSON.stringify({ id, method, params }));
    const { error, ...rest } = await answer.promise;
    if (error) throw new Error(`${method}: ${error.message}`);
    return rest;
  }
}

/** Connects to the inspector at `url` (`ws://…`, as the process told); profiles go into `folder`, which is made. */
export async function connectProfiler(url: string, folder: string): Promise<Profiler> {
  mkdirSync(folder, { recursive: true });
  const socket = new WebSocket(url);
  const profiler = new Profiler(socket, folder);
  await once(socket, 'open');
  return profiler;
}
