import type { TSchema } from 'typebox';
import { type Config, ConfigSchema } from './config-schema.ts';

/** `section.key` of every setting, e.g. `fleet.leaseTtlMs`. */
export type ConfigPath = {
  [S in keyof Config]: `${S}.${keyof Config[S] & string}`;
}[keyof Config];

/** What a text from the environment, a flag or a credential file is turned into. */
export type SettingKind = 'number' | 'text' | 'optional text';

/** One setting, as the loader, the documentation and the commands see it. */
export interface Setting {
  readonly path: ConfigPath;
  readonly section: keyof Config;
  readonly key: string;
  readonly kind: SettingKind;
  readonly schema: TSchema;
  /** It has no default and must be given. */
  readonly isRequired: boolean;
  /** The default; the empty string where there is none. */
  readonly fallback: unknown;
  readonly description: string;
  /** Names in the environment, the preferred one first. */
  readonly envNames: readonly string[];
  /** File names under `$CREDENTIALS_DIRECTORY`, the preferred one first. */
  readonly credentialNames: readonly string[];
  /** Never shown, not even in part. URLs are shown without their password. */
  readonly isSecret: boolean;
}

/** The part of a leaf's JSON Schema that is read here. */
interface Leaf {
  readonly type?: string;
  readonly anyOf?: readonly { readonly type?: string }[];
  readonly default?: unknown;
  readonly description?: string;
}

const PREFIX = 'TOLLGATE_';

/** Sections whose keys also have a short name: `TOLLGATE_REDIS_URL` is `TOLLGATE_SERVERS_REDIS_URL`. */
const SHORT_SECTIONS: ReadonlySet<string> = new Set(['servers', 'secrets']);

function upperSnake(camel: string): string {
  return camel.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

function kindOf(leaf: Leaf): SettingKind {
  if (leaf.type === 'integer' || leaf.type === 'number') return 'number';
  return leaf.anyOf?.some((option) => option.type === 'null') ? 'optional text' : 'text';
}

function settingOf(section: keyof Config, key: string, schema: TSchema): Setting {
  const leaf = schema as Leaf;
  const long = `${PREFIX}${upperSnake(section)}_${upperSnake(key)}`;
  const envNames = SHORT_SECTIONS.has(section) ? [`${PREFIX}${upperSnake(key)}`, long] : [long];
  return {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the two halves come from the schema itself.
    path: `${section}.${key}` as ConfigPath,
    section,
    key,
    kind: kindOf(leaf),
    schema,
    isRequired: leaf.default === undefined,
    fallback: leaf.default === undefined ? '' : leaf.default,
    description: leaf.description ?? '',
    envNames,
    credentialNames: envNames.map((name) => name.slice(PREFIX.length).toLowerCase()),
    isSecret: section === 'secrets',
  };
}

/** Every setting, in the order of the schema. */
export const SETTINGS: readonly Setting[] = Object.entries(ConfigSchema.properties).flatMap(
  ([section, { properties }]) =>
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Object.entries forgets the names of the keys.
    Object.entries(properties).map(([key, schema]) => settingOf(section as keyof Config, key, schema)),
);

/** Edit distance of two names, case ignored. O(length²), names are short. Source: Wagner and Fischer 1974. */
function distance(from: string, to: string): number {
  const a = from.toLowerCase();
  const b = to.toLowerCase();
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitute, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** The name that `wrong` was probably meant to be: at most `apartMax` edits away, or undefined. */
export function nearestName(
  wrong: string,
  names: readonly string[],
  apartMax = Math.max(2, Math.floor(wrong.length / 3)),
): string | undefined {
  const [best] = names
    .map((name) => ({ name, apart: distance(wrong, name) }))
    .toSorted((a, b) => a.apart - b.apart);
  return best !== undefined && best.apart <= apartMax ? best.name : undefined;
}
