import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

/** How a command ended and what it said. */
export interface CliResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs `tollgate <args>` as a child process of its own. Its environment is what is given and nothing else, so that no server of
 * the test run is found by chance; standard input is `stdin`, empty unless given. `isDeaf`: nobody reads what it prints.
 */
export async function runCli(
  args: readonly string[],
  {
    env = {},
    stdin = '',
    isDeaf = false,
  }: { env?: Readonly<Record<string, string>>; stdin?: string; isDeaf?: boolean } = {},
): Promise<CliResult> {
  const child = spawn(process.execPath, [MAIN, ...args], { env: { PATH: process.env['PATH'], ...env } });
  child.stdin.end(stdin);
  if (isDeaf) child.stdout.destroy();
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', resolve);
  });
  const [stdout, stderr, status] = await Promise.all([
    isDeaf ? '' : text(child.stdout),
    text(child.stderr),
    ended,
  ]);
  return { status, stdout, stderr };
}
