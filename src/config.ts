import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseToml, TomlError } from 'smol-toml';
import { Value } from 'typebox/value';
import { type ConfigPath, nearestName, SETTINGS, type Setting } from './config-keys.ts';
import { brokenRules, urlFault } from './config-rules.ts';
import type { Config } from './config-schema.ts';
import { ConfigError } from './errors.ts';
import { redactUrls } from './redact.ts';

/** Where settings come from, the strongest first: flags, environment, credential files, the TOML file, the schema's defaults. */
export interface ConfigSources {
  /** `section.key` → text, as typed on the command line. */
  readonly flags?: Readonly<Record<string, string>>;
  /** The process's own environment unless given. An empty value counts as absent. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Folder of one file per setting, as systemd's LoadCredential makes it; `$CREDENTIALS_DIRECTORY` unless given. */
  readonly credentialsDirectory?: string | null;
  /** TOML file with a table per section; `$TOLLGATE_CONFIG` unless given. */
  readonly file?: string | null;
  /** Values a command brings along, such as the URLs of servers it started: weaker than all the above. */
  readonly fallbacks?: Readonly<Partial<Record<ConfigPath, string>>>;
  /**
   * The settings without a default that the caller will use. Another one may be absent and is then the empty string: a
   * command that only talks to RabbitMQ asks for no database. All of them unless given.
   */
  readonly needs?: readonly ConfigPath[];
}

/** A value as it was found, and where, for the fault that names it. */
interface Found {
  readonly value: unknown;
  readonly source: string;
}

/** What one source gave, and what in it is wrong. */
interface Source {
  readonly found: ReadonlyMap<ConfigPath, Found>;
  readonly faults: readonly string[];
}

const NUMBER = /^-?\d+(\.\d+)?$/;

/** Text from outside as the setting's kind; text that is no number stays text and fails the schema. */
function fromText(setting: Setting, text: string): unknown {
  if (setting.kind === 'number' && NUMBER.test(text)) return Number(text);
  return text;
}

function readPairs(source: string, pairs: Readonly<Record<string, string>>): Source {
  const found = new Map<ConfigPath, Found>();
  const faults: string[] = [];
  for (const [path, text] of Object.entries(pairs)) {
    const setting = SETTINGS.find((candidate) => candidate.path === path);
    if (setting === undefined)
      faults.push(
        unknown(
          source,
          path,
          SETTINGS.map((known) => known.path),
        ),
      );
    else found.set(setting.path, { value: fromText(setting, text), source });
  }
  return { found, faults };
}

/**
 * Reads settings that are named one by one (variables, credential files). A foreign name is not ours to judge, unless it
 * begins like one of our sections or is within two letters of one of our names.
 */
function readNamed(
  kind: 'environment' | 'credential',
  names: readonly string[],
  read: (name: string) => string | undefined,
): Source {
  const found = new Map<ConfigPath, Found>();
  const namesOf = (setting: Setting) => (kind === 'environment' ? setting.envNames : setting.credentialNames);
  // The preferred name is read last, so it wins.
  for (const setting of SETTINGS)
    for (const name of namesOf(setting).toReversed()) {
      const text = read(name);
      if (text !== undefined && text !== '')
        found.set(setting.path, { value: fromText(setting, text), source: `${kind} ${name}` });
    }
  const known = SETTINGS.flatMap(namesOf);
  const prefixes = SETTINGS.map(({ section }) =>
    kind === 'environment' ? `TOLLGATE_${section.toUpperCase()}_` : `${section}_`,
  );
  const faults = names
    .filter((name) => !known.includes(name))
    .filter((name) => prefixes.some((prefix) => name.startsWith(prefix)) || nearestName(name, known, 2))
    .map((name) => unknown(kind, name, known));
  return { found, faults };
}

function readEnvironment(env: NonNullable<ConfigSources['env']>): Source {
  const names = Object.keys(env).filter((name) => name.startsWith('TOLLGATE_'));
  return readNamed('environment', names, (name) => env[name]);
}

function readCredentials(directory: string): Source {
  try {
    const names = readdirSync(directory);
    const read = (name: string) =>
      names.includes(name) ? readFileSync(join(directory, name), 'utf8').trim() : undefined;
    return readNamed('credential', names, read);
  } catch (error) {
    return { found: new Map(), faults: [`credentials: cannot read ${directory} (${reasonOf(error)})`] };
  }
}

function readFile(file: string): Source {
  let tables: Record<string, unknown>;
  try {
    tables = parseToml(readFileSync(file, 'utf8'));
  } catch (error) {
    // The parser's own message quotes the line, which may hold a password.
    const where = error instanceof TomlError ? `not TOML at line ${error.line}` : reasonOf(error);
    return { found: new Map(), faults: [`file: cannot read ${file} (${where})`] };
  }
  const found = new Map<ConfigPath, Found>();
  const faults: string[] = [];
  const sections = [...new Set<string>(SETTINGS.map((setting) => setting.section))];
  for (const [section, table] of Object.entries(tables)) {
    if (!sections.includes(section)) faults.push(unknown('table', section, sections));
    else if (typeof table !== 'object' || table === null || Array.isArray(table))
      faults.push(`${section}: must be a table, [${section}] (file ${file})`);
    else
      for (const [key, value] of Object.entries(table)) {
        const setting = SETTINGS.find((candidate) => candidate.path === `${section}.${key}`);
        const known = SETTINGS.filter((candidate) => candidate.section === section);
        if (setting !== undefined) found.set(setting.path, { value, source: `file ${file}` });
        else
          faults.push(
            unknown(
              'file',
              `${section}.${key}`,
              known.map((candidate) => candidate.path),
            ),
          );
      }
  }
  return { found, faults };
}

function unknown(source: string, name: string, known: readonly string[]): string {
  const near = nearestName(name, known);
  return `${name}: no such setting (${source})${near === undefined ? '' : `, did you mean ${near}?`}`;
}

function reasonOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
}

/** What is wrong with a value that was given, or null. A secret or a URL is never repeated. */
function valueFault(setting: Setting, { value, source }: Found): string | null {
  const [error] = Value.Errors(setting.schema, value);
  const isText = setting.kind !== 'number' && typeof value === 'string';
  const url = error === undefined && isText ? urlFault(setting.path, value) : null;
  if (error === undefined) return url === null ? null : `${setting.path}: ${url} (${source})`;
  const isPrivate = setting.isSecret || setting.section === 'servers';
  const got = isPrivate ? '' : `, got ${JSON.stringify(value)?.slice(0, 64)}`;
  return `${setting.path}: ${describe(setting, error.message)}${got} (${source})`;
}

/** The schema's complaint with what would be right, where the schema's words leave that out. */
function describe(setting: Setting, message: string): string {
  const { enum: choices } = setting.schema as { enum?: readonly string[] };
  return choices === undefined ? message : `must be one of ${choices.join(', ')}`;
}

/** The fault of a setting that no source has, or null if the caller can do without. */
function missingFault(setting: Setting, needs: ConfigSources['needs']): string | null {
  const hasDefault = !setting.isRequired && setting.fallback !== null;
  const isNeeded = needs === undefined ? setting.isRequired : needs.includes(setting.path) && !hasDefault;
  return isNeeded ? `${setting.path}: missing, set ${setting.envNames[0]}` : null;
}

/** The strongest source that has the setting. */
function strongest(setting: Setting, sources: readonly Source[]): Found | undefined {
  return sources.map((source) => source.found.get(setting.path)).find((found) => found !== undefined);
}

/**
 * Reads the configuration and checks all of it. Throws ConfigError with every fault at once: unknown names with the
 * nearest known one, wrong types and ranges, missing settings, settings that contradict each other. Secrets and URLs are
 * never part of a fault. Source: design [28].
 */
export function loadConfig(sources: ConfigSources = {}): Config {
  const env = sources.env ?? process.env;
  const credentials = sources.credentialsDirectory ?? env['CREDENTIALS_DIRECTORY'];
  const file = sources.file ?? env['TOLLGATE_CONFIG'];
  const read = [
    readPairs('command line', sources.flags ?? {}),
    readEnvironment(env),
    ...(credentials ? [readCredentials(credentials)] : []),
    ...(file ? [readFile(file)] : []),
    readPairs('brought along', sources.fallbacks ?? {}),
  ];
  const faults = read.flatMap((source) => source.faults);
  const wrong = new Set<ConfigPath>();
  const config: Partial<Record<keyof Config, Record<string, unknown>>> = {};
  for (const setting of SETTINGS) {
    const found = strongest(setting, read);
    const fault = found === undefined ? missingFault(setting, sources.needs) : valueFault(setting, found);
    if (fault !== null) {
      faults.push(fault);
      wrong.add(setting.path);
    }
    const section = (config[setting.section] ??= {});
    section[setting.key] = found === undefined ? setting.fallback : found.value;
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each value was checked above; a broken one throws below.
  const complete = config as Config;
  for (const rule of brokenRules(complete))
    if (!rule.paths.some((path) => wrong.has(path))) faults.push(`${rule.paths.join(', ')}: ${rule.text}`);
  if (faults.length > 0) throw new ConfigError(faults);
  return complete;
}

/**
 * What systemd told this process at its start, or null if it was not started as a `Type=notify` service. `watchdogMs`: how long it
 * waits for a sign of life; null without a watchdog, or where that is meant for another process. Source: sd_watchdog_enabled(3).
 */
export function systemdFacts(
  env: NonNullable<ConfigSources['env']> = process.env,
  pid: number = process.pid,
): { readonly watchdogMs: number | null } | null {
  if (!env['NOTIFY_SOCKET']) return null;
  const isOurs = !env['WATCHDOG_PID'] || env['WATCHDOG_PID'] === String(pid);
  const usec = Number(env['WATCHDOG_USEC'] ?? 0);
  return { watchdogMs: isOurs && usec > 0 ? usec / 1_000 : null };
}

/** The configuration as it may be shown: secrets as `[set]` or `[not set]`, URLs without their password. */
export function describeConfig(config: Config): Readonly<Record<string, Readonly<Record<string, unknown>>>> {
  const shown: Record<string, Record<string, unknown>> = {};
  for (const { section, key, isSecret } of SETTINGS) {
    const value: unknown = (config[section] as Record<string, unknown>)[key];
    const hidden = value === '' ? '[not set]' : '[set]';
    const visible = typeof value === 'string' ? redactUrls(value) : value;
    (shown[section] ??= {})[key] = isSecret ? hidden : visible;
  }
  return shown;
}
