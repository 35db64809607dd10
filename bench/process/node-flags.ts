import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BenchError } from '../bench-error.ts';

/** A unit's command: Node, its own flags, the program, and what it does. */
const COMMAND = /^ExecStart=\S*\/node((?: --\S+)*) \S+\/main\.js serve$/m;

/**
 * What the service of the checkout at `root` gives to Node besides the program: measured is a coordinator as operators run it.
 * Throws BenchError when the unit starts no coordinator.
 */
export function serviceNodeFlags(root: string): string[] {
  const unit = join(root, 'deploy/tollgate.service');
  const flags = COMMAND.exec(readFileSync(unit, 'utf8'))?.[1];
  if (flags === undefined) throw new BenchError(`${unit} does not say how a coordinator is started`);
  return flags.split(' ').filter((flag) => flag !== '');
}
