import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const QUIET_MS = 1_000;

/**
 * Runs `work` while this process holds the lock on `file`, and nobody else on this machine does. A kernel lock, held by
 * flock(1) for us: it is free again the moment we end, however we end. `onWait` is called once if somebody else has it.
 */
export async function withFileLock<T>(file: string, onWait: () => void, work: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(file), { recursive: true });
  const holder = spawn('flock', [file, 'sh', '-c', 'echo held && exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const waiting = new AbortController();
  sleep(QUIET_MS, undefined, { signal: waiting.signal }).then(onWait, () => {});
  try {
    await new Promise<void>((resolve, reject) => {
      holder.once('error', reject);
      holder.once('exit', (code) => reject(new Error(`flock ${file} ended with ${code}`)));
      createInterface({ input: holder.stdout }).once('line', () => resolve());
    });
    waiting.abort();
    return await work();
  } finally {
    waiting.abort();
    holder.removeAllListeners('exit');
    holder.stdin.end();
  }
}
