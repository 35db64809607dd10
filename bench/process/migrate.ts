import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BenchError } from '../bench-error.ts';

const run = promisify(execFile);
const MIGRATE_MS_MAX = 120_000;

/** Brings an empty database to the schema of the checkout at `root`, by its own `tollgate migrate`. Throws BenchError. */
export async function migrateBy(root: string, postgresAdminUrl: string): Promise<void> {
  const program = join(root, 'src/cli/main.ts');
  const env = { PATH: process.env['PATH'] ?? '', TOLLGATE_POSTGRES_ADMIN_URL: postgresAdminUrl };
  try {
    await run(process.execPath, [program, 'migrate'], { cwd: root, env, timeout: MIGRATE_MS_MAX });
  } catch (error) {
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : String(error);
    throw new BenchError(`tollgate migrate of that commit failed:\n${said}`, { cause: error });
  }
}
