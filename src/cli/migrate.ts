import type { Command } from 'commander';
import { command, withAction } from './command.ts';
import { usageFault } from './failure.ts';

/** `tollgate migrate`: the schema of this version. */
export function migrateCommand(): Command {
  const migrate = command({
    name: 'migrate',
    summary: 'bring PostgreSQL to the schema of this version: roles, migrations, partitions',
    examples: [
      'TOLLGATE_POSTGRES_ADMIN_URL=postgres://postgres:…@db/tollgate tollgate migrate',
      'tollgate migrate --set-role-passwords --json',
    ],
  }).option('--set-role-passwords', 'give every tollgate_* login the password in TOLLGATE_POSTGRES_URL');
  return withAction<{ setRolePasswords?: true }>(migrate, async ({ options, output, loadConfig }) => {
    const { servers } = await loadConfig(['servers.postgresAdminUrl']);
    const rolePassword = options.setRolePasswords ? passwordOf(servers.postgresUrl) : null;
    const [{ migrate: run }, { createLog }] = await Promise.all([
      import('../postgres/migrate.ts'),
      import('../ops/log.ts'),
    ]);
    const log = createLog({ level: 'silent' });
    const { connectTimeoutMs } = servers;
    const url = servers.postgresAdminUrl ?? '';
    const report = await run({ url, rolePassword, connectTimeoutMs }, log);
    const { applied, version, partitionsMade } = report;
    const done = applied.length === 0 ? 'nothing to apply' : `applied ${applied.join(', ')}`;
    output.result(
      { applied, version, partitions_made: partitionsMade },
      `${done}; the schema is at version ${version}, ${partitionsMade} partitions made`,
    );
  });
}

function passwordOf(url: string): string {
  const password = URL.canParse(url) ? decodeURIComponent(new URL(url).password) : '';
  if (password === '') usageFault('--set-role-passwords', 'needs a password in TOLLGATE_POSTGRES_URL');
  return password;
}
