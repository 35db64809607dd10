import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, realpathSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { Client } from 'pg';
import { findBinary } from '../../src/stack/binaries.ts';
import { until } from '../../test/support/until.ts';
import { BenchError } from '../bench-error.ts';
import { machineMs } from '../measure/clock.ts';
import { summarize } from '../measure/statistics.ts';
import type { Owner } from '../process/owner.ts';
import type { Bench } from '../suites/suite.ts';

/** By this name PostgreSQL knows it. */
const NAME = 'bench_standby';

/** Commits that are timed to see what the standby adds. */
const TIMED_COMMITS = 30;

/** What it is asked to say of itself. */
const ROLE = "select sync_state from pg_stat_replication where application_name = $1 and state = 'streaming'";

/**
 * A synchronous standby of our own PostgreSQL: pg_receivewal, which writes the WAL to a disk and says so, and a wire on which
 * its answers are late. While it is attached, a commit waits for it inside the server, with its row locks held, as with a real
 * replica; while it is detached it receives the same WAL and nobody waits.
 */
export class Standby {
  /** Of pg_receivewal. */
  readonly pid: number;
  readonly #admin: Client;
  readonly #receiver: ChildProcess;
  readonly #wire: Server;
  #isStopping = false;

  private constructor(admin: Client, receiver: ChildProcess, pid: number, wire: Server, owner: Owner) {
    this.pid = pid;
    this.#admin = admin;
    this.#receiver = receiver;
    this.#wire = wire;
    receiver.once('exit', (code, signal) => {
      if (!this.#isStopping) owner.fail(new BenchError(`pg_receivewal ended with ${signal ?? code}`));
    });
  }

  /** Starts one whose answers are `delayMs` late, detached. Throws where PostgreSQL is not ours to change. */
  static async start({ t, stack, owner }: Bench, delayMs: number): Promise<Standby> {
    if (!stack.started.includes('postgres'))
      throw new BenchError('a synchronous standby needs a PostgreSQL of the bench: give it no URL of one');
    const admin = new Client({ connectionString: stack.urls.postgresAdmin });
    await admin.connect();
    t.after(() => admin.end());
    const { hostname, port, username, password } = new URL(stack.urls.postgresAdmin);
    const wire = await lateAnswers(hostname, Number(port), delayMs);
    t.after(() => wire.close());
    const { found } = await findBinary('postgres');
    if (found === undefined)
      throw new BenchError('PostgreSQL was not found, and pg_receivewal lies beside it');
    // Beside the program itself: some systems link only the server onto PATH.
    const program = join(dirname(realpathSync(found.path)), 'pg_receivewal');
    const folder = mkdtempSync(join(stack.folder, 'standby-'));
    const address = wire.address();
    const wirePort = typeof address === 'object' ? address?.port : undefined;
    const where = `host=127.0.0.1 port=${wirePort} user=${username} application_name=${NAME} sslmode=disable`;
    const args = ['--synchronous', '--no-loop', '--no-password', '-D', folder, '-d', where];
    const receiver = spawn(program, args, {
      env: { PATH: process.env['PATH'] ?? '', PGPASSWORD: decodeURIComponent(password) },
      stdio: ['ignore', 'ignore', 2],
    });
    if (receiver.pid === undefined) throw new BenchError(`${program} could not be started`);
    owner.adopt(receiver.pid);
    const standby = new Standby(admin, receiver, receiver.pid, wire, owner);
    t.after(() => standby.stop());
    await standby.#becomes('async');
    return standby;
  }

  /** From now on commits wait for it. */
  async attach(): Promise<void> {
    await this.#admin.query(`alter system set synchronous_standby_names = '${NAME}'`);
    await this.#admin.query('select pg_reload_conf()');
    await this.#becomes('sync');
  }

  async detach(): Promise<void> {
    await this.#admin.query('alter system reset synchronous_standby_names');
    await this.#admin.query('select pg_reload_conf()');
    await this.#becomes('async');
  }

  /** Milliseconds that a commit of one small record takes now: the median of a few, one after the other. */
  async commitMs(): Promise<number> {
    const tookMs: number[] = [];
    for (let n = 0; n < TIMED_COMMITS; n++) {
      const startMs = machineMs();
      await this.#admin.query("select pg_logical_emit_message(true, 'bench', 'a commit')");
      tookMs.push(machineMs() - startMs);
    }
    return summarize(tookMs).median;
  }

  /** Nobody waits for it any more, and it ends. */
  async stop(): Promise<void> {
    if (this.#isStopping) return;
    await this.detach();
    this.#isStopping = true;
    const exited = once(this.#receiver, 'exit');
    this.#receiver.kill('SIGTERM');
    await exited;
    this.#wire.close();
  }

  async #becomes(role: 'sync' | 'async'): Promise<void> {
    await until(
      async () =>
        (await this.#admin.query<{ sync_state: string }>(ROLE, [NAME])).rows[0]?.sync_state === role,
      `the standby to be ${role}`,
      { timeoutMs: 10_000 },
    );
  }
}

/** A wire to `host:port` on a free port: what the client says arrives `delayMs` late and in order, what the server says at once. */
async function lateAnswers(host: string, port: number, delayMs: number): Promise<Server> {
  const wire = createServer({ noDelay: true }, (client) => {
    const server = connect({ host, port, noDelay: true });
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    server.on('data', (bytes) => void client.write(bytes));
    client.on('data', (bytes) => later(server, bytes, delayMs));
  });
  wire.listen(0, '127.0.0.1');
  await once(wire, 'listening');
  return wire;
}

/** Timers of one length fire in the order in which they were set. Nothing is held up by what is on its way. */
function later(to: Socket, bytes: Buffer, delayMs: number): void {
  setTimeout(() => {
    if (to.writable) to.write(bytes);
  }, delayMs);
}
