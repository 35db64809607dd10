import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** Where the processes of a run live, and who ends them when the run itself is killed. */
export interface Nursery {
  readonly folder: string;
  readonly adopt: (pid: number) => void;
}

/** How a process ended. */
export interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const READY_MS_MAX = 60_000;
const TAIL_LINES = 12;

/**
 * A program of the run in a process of its own: `input` goes to it by a channel, so that no password is an argument; it answers
 * once when it is ready, and may say more later. Its output is appended to a log.
 */
export class Child<Input extends object, Said> {
  readonly logFile: string;
  /** Resolves when it has ended, however. */
  readonly ended: Promise<End>;
  readonly #process: ChildProcess;
  readonly #ready = Promise.withResolvers<void>();
  #hasEnded = false;

  /** `program`: a file beside this one. `heard` gets all that it says, the first word included. */
  constructor(program: string, input: Input, logFile: string, nursery: Nursery, heard: (said: Said) => void) {
    this.logFile = logFile;
    const log = openSync(logFile, 'a');
    this.#process = fork(fileURLToPath(new URL(program, import.meta.url)), [], {
      cwd: nursery.folder,
      // What is started hundreds of times is compiled once.
      env: { NODE_COMPILE_CACHE: join(nursery.folder, 'compiled') },
      execArgv: [],
      stdio: ['ignore', log, log, 'ipc'],
    });
    closeSync(log);
    if (this.#process.pid !== undefined) nursery.adopt(this.#process.pid);
    const kill = () => this.#process.kill('SIGKILL');
    process.once('exit', kill);
    this.#process.on('message', (said: Said) => {
      this.#ready.resolve();
      heard(said);
    });
    this.#process.on('error', () => undefined);
    this.ended = once(this.#process, 'exit').then(([code, signal]: unknown[]) => {
      process.off('exit', kill);
      this.#hasEnded = true;
      return {
        code: typeof code === 'number' ? code : null,
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Node names the signal.
        signal: typeof signal === 'string' ? (signal as NodeJS.Signals) : null,
      };
    });
    this.tell(input);
  }

  /** Resolves when it is ready; rejects with the end of its log when it ends first or takes too long. */
  async ready(): Promise<void> {
    const late = sleep(READY_MS_MAX, 'late' as const, { ref: false });
    const first = await Promise.race([this.#ready.promise, this.ended, late]);
    if (first !== undefined) throw new Error(`${this.logFile} was not ready\n${this.#tail()}`);
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Says something to it; nothing happens if it is gone. */
  tell(word: object): void {
    if (this.#process.connected) this.#process.send(word, () => undefined);
  }

  /** Sends a signal, if it lives. */
  signal(name: NodeJS.Signals): void {
    if (!this.#hasEnded) this.#process.kill(name);
  }

  /** SIGTERM, and SIGKILL after `msMax`; resolves with how it ended. */
  async stop(msMax: number): Promise<End> {
    this.signal('SIGCONT');
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), msMax);
    const end = await this.ended;
    clearTimeout(timer);
    return end;
  }

  #tail(): string {
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
  }
}

/** The child's side: the input that its parent sent first. It ends when its parent is gone. */
export async function inputOf<Input>(): Promise<Input> {
  process.once('disconnect', () => process.exit(1));
  // Ctrl-C in a terminal goes to the whole group; the run itself decides when its parts end.
  process.on('SIGINT', () => undefined);
  const [input]: Input[] = await once(process, 'message');
  if (input === undefined) throw new Error('the parent said nothing');
  return input;
}
