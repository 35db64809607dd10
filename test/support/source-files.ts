import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root folder. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** One file: its path from the root, and its text by lines. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
}

/** One import of a file. `target` is a path from the root, or a package's name. */
export interface Import {
  readonly from: string;
  readonly target: string;
  readonly isType: boolean;
  /** `await import(…)`: loaded when it is reached, so it makes no cycle. */
  readonly isLazy: boolean;
}

/** A function, method or arrow with a body in braces. */
export interface FunctionSpan {
  readonly file: string;
  readonly line: number;
  readonly head: string;
  readonly length: number;
}

/** All files below `folder` whose name ends with one of `endings`, in path order; none if there is no such folder. */
export function filesBelow(folder: string, endings: readonly string[]): SourceFile[] {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && endings.some((ending) => entry.name.endsWith(ending)))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter((path) => !path.includes('node_modules'))
    .toSorted()
    .map(readSource);
}

/** Reads one file by its path from the root. */
export function readSource(path: string): SourceFile {
  const text = readFileSync(join(ROOT, path), 'utf8');
  return { path, text, lines: text.split('\n') };
}

const STATIC_IMPORT = /^(?:import|export)\s+(type\s)?[^'";]*?from\s+'([^']+)'|^import\s+()'([^']+)'/gm;
const LAZY_IMPORT = /\bimport\('([^']+)'\)/g;

/** What `file` imports, as Biome writes imports. An import whose every name is a `type` counts as a type import. */
export function importsOf(file: SourceFile): Import[] {
  const target = (specifier: string) =>
    specifier.startsWith('.') ? relative(ROOT, join(ROOT, dirname(file.path), specifier)) : specifier;
  const eager = [...file.text.matchAll(STATIC_IMPORT)].map((match) => {
    const names = /\{([^}]*)\}/.exec(match[0])?.[1]?.split(',') ?? [];
    const areTypes = names.some((name) => name.trim()) && names.every((name) => /^\s*(type\s|$)/.test(name));
    const isType = match[1] !== undefined || areTypes;
    return { from: file.path, target: target(match[2] ?? match[4] ?? ''), isType, isLazy: false };
  });
  const lazy = [...file.text.matchAll(LAZY_IMPORT)].map((match) => ({
    from: file.path,
    target: target(match[1] ?? ''),
    isType: false,
    isLazy: true,
  }));
  return [...eager, ...lazy];
}

const FUNCTION_HEAD =
  /^(\s*)(?:(?:export |default |async )*function\b|(?:(?:static|async|get|set|override|private)\s+)*[*#]?[\w$]+(?:<[^>]*>)?\(.*(?:\{|\()$|.*=>\s*\{$)/;
const STATEMENT = /^\s*(?:if|for|while|switch|catch|return|await|else|do|try|new)\b/;

/** Every function of a file that Biome has formatted: it ends at the next line of its own indentation that begins with `}`. */
export function functionsOf(file: SourceFile): FunctionSpan[] {
  return file.lines.flatMap((head, start) => {
    const match = FUNCTION_HEAD.exec(head);
    if (match === null || (STATEMENT.test(head) && !head.endsWith('=> {'))) return [];
    const indent = match[1] ?? '';
    const end = file.lines.findIndex((line, at) => at > start && line.startsWith(`${indent}}`));
    if (end < 0) return [];
    return [{ file: file.path, line: start + 1, head: head.trim(), length: end - start + 1 }];
  });
}
