import { CommanderError } from 'commander';
import { bearClosedOutput } from './closed-output.ts';
import { EXIT, failureOf } from './failure.ts';
import { Output } from './output.ts';
import { program } from './program.ts';

/** How long open handles may keep the process after the command has ended, in milliseconds; then it exits all the same. */
const LINGER_MS = 1_000;

/** Runs one command line (without node and script); the exit status is left in `process.exitCode`. */
async function run(argv: readonly string[]): Promise<void> {
  try {
    await program().parseAsync(argv, { from: 'user' });
  } catch (error) {
    // Help and version were printed and are no faults; help that nobody asked for means that a command is missing.
    if (error instanceof CommanderError && error.exitCode === 0) return;
    if (error instanceof CommanderError && error.code === 'commander.help') {
      process.exitCode = EXIT.usage;
      return;
    }
    const failure = failureOf(error);
    new Output(argv.at(-1) === '--json' ? true : undefined).failure(failure);
    process.exitCode = failure.status;
  }
}

bearClosedOutput();
await run(process.argv.slice(2));
// A driver's socket that is slow to close must not keep the shell waiting; output has been flushed by then.
setTimeout(() => process.exit(), LINGER_MS).unref();
