import { readdirSync, readFileSync } from 'node:fs';
import { invariant } from '../errors.ts';

const folder = new URL('../../sql/queries/', import.meta.url);

/** Every file of `sql/queries`, read once: name without `.sql` → text. */
const statements: ReadonlyMap<string, string> = new Map(
  readdirSync(folder)
    .filter((file) => file.endsWith('.sql'))
    .map((file) => [file.slice(0, -'.sql'.length), readFileSync(new URL(file, folder), 'utf8')]),
);

/** The text of `sql/queries/<name>.sql`; there is no other SQL. A name without a file is a programmer's error. */
export function statement(name: string): string {
  const text = statements.get(name);
  invariant(text !== undefined, `there is no sql/queries/${name}.sql`);
  return text;
}
