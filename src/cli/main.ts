import { Command, CommanderError } from 'commander';
import { VERSION } from '../version.ts';
import { accountCommand } from './account.ts';
import { devCommand } from './dev.ts';
import { docsCommand } from './docs.ts';
import { doctorCommand } from './doctor.ts';
import { EXIT, failureOf } from './failure.ts';
import { jobCommand } from './job.ts';
import { migrateCommand } from './migrate.ts';
import { modelCommand } from './model.ts';
import { nodeCommand } from './node.ts';
import { Output } from './output.ts';
import { serveCommand } from './serve.ts';
import { submitCommand } from './submit.ts';
import { workerCommand } from './worker.ts';

/** How long open handles may keep the process after the command has ended, in milliseconds; then it exits all the same. */
const LINGER_MS = 1_000;

function program(): Command {
  const root = new Command('tollgate')
    .description('A worker-centric job dispatcher for decentralised AI inference.')
    .version(VERSION, '-V, --version', 'print the version')
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .addHelpText('after', '\nEvery command has --help with examples. Exit statuses: docs/commands.md.');
  const members = [
    devCommand(),
    serveCommand(),
    migrateCommand(),
    submitCommand(),
    jobCommand(),
    accountCommand(),
    nodeCommand(),
    modelCommand(),
    workerCommand(),
    doctorCommand(),
  ];
  for (const member of members) root.addCommand(member);
  return root.addCommand(docsCommand(), { hidden: true });
}

/** Runs one command line (without node and script) and returns its exit status. */
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

await run(process.argv.slice(2));
// A driver's socket that is slow to close must not keep the shell waiting; output has been flushed by then.
setTimeout(() => process.exit(), LINGER_MS).unref();
