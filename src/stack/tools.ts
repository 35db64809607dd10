import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { aptInstall, isDebianLike, privilegeHere, type Setup } from './apt.ts';
import { cacheFolder, findOnPath } from './binaries.ts';
import { withFileLock } from './file-lock.ts';

const run = promisify(execFile);

/**
 * Programs that only tests use, to judge the files of `deploy/` as an operator's machine would. A package whose installation would
 * bring a server along is not installed: the one program is taken out of it.
 */
const TOOLS = {
  promtool: { package: 'prometheus', program: './usr/bin/promtool' },
  'systemd-analyze': { package: 'systemd', program: null },
} as const;

/** One of them. */
export type Tool = keyof typeof TOOLS;

/** All of them. */
export const TOOL_NAMES: readonly Tool[] = ['promtool', 'systemd-analyze'];

/** Longest wait for a package of 20 MB, in milliseconds. */
const FETCH_MS_MAX = 180_000;

/** Path of a tool that is on the machine, on PATH or in our cache. Changes nothing. */
export function findTool(tool: Tool): string | undefined {
  const cached = cachedPath(tool);
  return findOnPath(tool) ?? (existsSync(cached) ? cached : undefined);
}

/**
 * Gets the tools that are missing, where this machine lets us; one run per user at a time. Resolves to what stood in the way of
 * the rest, a line each. Never rejects for a tool: its tests say that they were left out.
 */
export async function ensureTools(setup: Setup): Promise<readonly string[]> {
  if (missing().length === 0) return [];
  if (!isDebianLike()) return missing().map((tool) => `${tool}: not found, and there is no apt here`);
  const lock = join(cacheFolder(), 'setup.lock');
  const onWait = () => setup.onProgress('setup: another run is installing; waiting for it');
  return await withFileLock(lock, onWait, async () => {
    const reasons: string[] = [];
    for (const tool of missing()) {
      const reason = await get(tool, setup);
      if (reason !== undefined) reasons.push(`${tool}: ${reason}`);
    }
    return reasons;
  });
}

function missing(): readonly Tool[] {
  return TOOL_NAMES.filter((tool) => findTool(tool) === undefined);
}

function cachedPath(tool: Tool): string {
  return join(cacheFolder(), 'tools', tool);
}

/** Says why where it fails. */
async function get(tool: Tool, setup: Setup): Promise<string | undefined> {
  const { package: name, program } = TOOLS[tool];
  if (program === null) return await aptInstall([name], await privilegeHere(), setup);
  const script = fileURLToPath(new URL('../../scripts/apt-fetch.sh', import.meta.url));
  setup.onProgress(`setup: taking ${tool} out of the package ${name}`);
  try {
    await run('sh', [script, name, program, cachedPath(tool)], {
      timeout: FETCH_MS_MAX,
      ...(setup.signal && { signal: setup.signal }),
    });
    return undefined;
  } catch (error) {
    return `apt-get download ${name} failed (${lastLine(error)})`;
  }
}

function lastLine(error: unknown): string {
  const text = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
  return text.trim().split('\n').at(-1) ?? '';
}
