import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunReport } from './report.ts';

/** A folder with one report per seed: `seed-<n>.json`. A seed that is run again replaces its report. */
export class RunsFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    mkdirSync(path, { recursive: true });
  }

  read(): RunReport[] {
    return readdirSync(this.path)
      .filter((name) => /^seed-\d+\.json$/.test(name))
      .map((name) => JSON.parse(readFileSync(join(this.path, name), 'utf8')));
  }

  /** The lowest seed from 1 that has no report above it. */
  nextSeed(): number {
    return 1 + Math.max(0, ...this.read().map(({ seed }) => seed));
  }

  add(report: RunReport): void {
    writeFileSync(join(this.path, `seed-${report.seed}.json`), `${JSON.stringify(report)}\n`);
  }
}
