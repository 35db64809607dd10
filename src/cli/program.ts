import { Command } from 'commander';
import { VERSION } from '../version.ts';
import { accountCommand } from './account.ts';
import { auditCommand, repairCommand } from './audit.ts';
import { devCommand } from './dev.ts';
import { docsCommand } from './docs.ts';
import { doctorCommand } from './doctor.ts';
import { jobCommand } from './job.ts';
import { migrateCommand } from './migrate.ts';
import { modelCommand } from './model.ts';
import { nodeCommand } from './node.ts';
import { serveCommand } from './serve.ts';
import { submitCommand } from './submit.ts';
import { workerCommand } from './worker.ts';

/** All commands of `tollgate`. Building them loads no driver: each command loads what it needs when it runs. */
export function program(): Command {
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
    auditCommand(),
    repairCommand(),
    doctorCommand(),
  ];
  for (const member of members) root.addCommand(member);
  return root.addCommand(docsCommand(), { hidden: true });
}
