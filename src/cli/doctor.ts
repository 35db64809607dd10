import type { Command } from 'commander';
import { command, withAction } from './command.ts';
import { EXIT } from './failure.ts';
import { snakeCase } from '../api/snake-case.ts';
import { table } from './output.ts';

/** `tollgate doctor`: what is there and what is missing. */
export function doctorCommand(): Command {
  const doctor = command({
    name: 'doctor',
    summary: 'say which servers are there, which are missing, and what to type',
    examples: ['tollgate doctor', 'tollgate doctor --json'],
  });
  return withAction(doctor, async ({ output }) => {
    const { inspectMachine } = await import('../stack/doctor.ts');
    const report = await inspectMachine();
    const rows = report.servers.map(({ title, needs, state, version, where }) => [
      title,
      `≥ ${needs}`,
      state,
      version ?? '',
      where ?? '',
    ]);
    const todo = report.servers.flatMap(({ title, advice, unfit }) => [
      ...unfit.map((reason) => `${title}: ${reason}`),
      ...(advice === null ? [] : [`${title}: ${advice}`]),
    ]);
    const verdict = report.isReady ? 'All four servers are there.' : 'Something is missing:';
    output.result(
      snakeCase(report),
      [
        `Node ${report.node}, ${report.system}`,
        table([['server', 'needs', 'state', 'version', 'where'], ...rows]),
        '',
        verdict,
        ...todo.map((line) => `  ${line}`),
      ].join('\n'),
    );
    return report.isReady ? EXIT.ok : EXIT.unavailable;
  });
}
