import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The parts of a V8 CPU profile that are read here; times in microseconds. */
export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** A function as called along one path. */
interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly children?: readonly number[];
}

/** A share of the time in which the process had something to do. */
export interface TimeShare {
  readonly name: string;
  readonly share: number;
}

/** How a node of the profile is counted, given the nodes from the root to it. */
type Naming = (path: readonly ProfileNode[]) => string;

/** By function, its own time without what it called. */
export const byFunction: Naming = (path) => nameOf(path.at(-1));

/** By the innermost function of ours that was on the stack: drivers' and Node's time counts for who called them. */
export const byOurFunction: Naming = (path) =>
  nameOf(path.findLast(({ callFrame }) => placeOf(callFrame.url).startsWith('dist/')));

/** Adds up the samples of all `profiles` by name, most first; idle time is left out. */
export function timeShares(profiles: readonly CpuProfile[], naming: Naming): TimeShare[] {
  const byName = new Map<string, number>();
  let busy = 0;
  for (const { nodes, samples, timeDeltas } of profiles) {
    const names = namesOf(nodes, naming);
    for (const [i, id] of samples.entries()) {
      const name = names.get(id);
      if (name === undefined) continue;
      const delta = timeDeltas[i] ?? 0;
      busy += delta;
      byName.set(name, (byName.get(name) ?? 0) + delta);
    }
  }
  return [...byName]
    .map(([name, time]) => ({ name, share: time / busy }))
    .toSorted((a, b) => b.share - a.share);
}

/** The profiles in a folder whose names begin with `prefix`. */
export function readProfiles(folder: string, prefix: string): CpuProfile[] {
  return readdirSync(folder)
    .filter((name) => name.startsWith(prefix) && name.endsWith('.cpuprofile'))
    .map((name): CpuProfile => JSON.parse(readFileSync(join(folder, name), 'utf8')));
}

/** Name of every node but the idle one. */
function namesOf(nodes: readonly ProfileNode[], naming: Naming): Map<number, string> {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const names = new Map<number, string>();
  const visit = (node: ProfileNode, above: readonly ProfileNode[]): void => {
    const path = [...above, node];
    if (node.callFrame.functionName !== '(idle)') names.set(node.id, naming(path));
    for (const id of node.children ?? []) {
      const child = byId.get(id);
      if (child !== undefined) visit(child, path);
    }
  };
  const [root] = nodes;
  if (root !== undefined) visit(root, []);
  return names;
}

/** `node_modules/…` of a package, which may have a `dist` of its own, and `dist/…` of the built program. */
function placeOf(url: string): string {
  const [, place] = /\/(node_modules\/.*)$/.exec(url) ?? /\/(dist\/.*)$/.exec(url) ?? [];
  return place ?? url.replace(/^file:\/\//, '');
}

function nameOf(node: ProfileNode | undefined): string {
  if (node === undefined) return '(none of ours on the stack)';
  const { functionName, url, lineNumber } = node.callFrame;
  const name = functionName === '' ? '(anonymous)' : functionName;
  return url === '' ? name : `${name} ${placeOf(url)}:${lineNumber + 1}`;
}

/** The first `shown` shares as a report shows them, a line each. */
export function shareLines(shares: readonly TimeShare[], shown: number): string[] {
  return shares
    .slice(0, shown)
    .map(({ name, share }) => `${(share * 100).toFixed(1).padStart(5)} %  ${name}`);
}
