import { spawn } from 'node:child_process';
import { SERVER_NAMES } from '../../src/stack/binaries.ts';
import { allProcesses, familyOf, type Process } from '../../src/stack/processes.ts';
import { type Stack, startStack } from '../../src/stack/stack.ts';
import { withStack } from '../../src/stack/with-stack.ts';
import { until } from '../support/until.ts';

/**
 * A program that owns a stack, to be killed by a test. Usage: owner.ts start|with SERVER[,SERVER…]. Tells on standard output
 * what it has, as one line of JSON, then waits for its end.
 */
export interface Owned {
  readonly folder: string;
  readonly processes: readonly Process[];
}

const [mode, servers = ''] = process.argv.slice(2);
const options = { only: SERVER_NAMES.filter((name) => servers.includes(name)), environment: {} };

async function tellAndWait(stack: Stack): Promise<void> {
  const { pid = 0 } = spawn('sh', ['-c', 'sleep 1000 & sleep 1000'], { stdio: 'ignore' });
  stack.adopt(pid);
  const family = () =>
    familyOf(
      allProcesses().filter((one) => one.pid === process.pid),
      stack.folder,
    );
  await until(
    () => family().filter(({ ppid }) => ppid === pid).length === 2,
    'the helper to have its children',
  );
  const processes = family();
  const owned: Owned = { folder: stack.folder, processes };
  process.stdout.write(`${JSON.stringify(owned)}\n`);
  await new Promise(() => setInterval(() => {}, 60_000));
}

if (mode === 'with') await withStack(tellAndWait, options);
else await tellAndWait(await startStack(options));
