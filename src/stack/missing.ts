import { TollgateError } from '../errors.ts';
import { isDebianLike } from './apt.ts';
import { type Search, type ServerName, SERVERS } from './binaries.ts';

/** A search and the server it was for. */
export type NamedSearch = Search & { readonly name: ServerName };

/** Those that were not found. */
export function missingIn(searches: readonly NamedSearch[]): readonly ServerName[] {
  return searches.filter(({ found }) => found === undefined).map(({ name }) => name);
}

/** What helps where servers are missing: each entry is one way, a line to type where there is one. */
export function waysOut(names: readonly ServerName[]): readonly string[] {
  const packages = names.flatMap((name) => SERVERS[name].packages).join(' ');
  const fetched = names.includes('mongodb') ? '   (the next run then fetches mongod)' : '';
  const titles = names.map((name) => `${SERVERS[name].title} ${SERVERS[name].atLeast.join('.')}`).join(', ');
  const variables = names.flatMap((name) => SERVERS[name].variables).map((variable) => `${variable}=…`);
  return [
    ...(isDebianLike() ? [`sudo apt-get install ${packages}${fetched}`] : []),
    `programs on PATH: ${titles}, or newer`,
    `export ${variables.join(' ')}   (servers that you have)`,
  ];
}

/** The one message about what is missing. `reasons`: what stood in the way of installing it. */
export function setupMissing(searches: readonly NamedSearch[], reasons: readonly string[]): TollgateError {
  const missing = missingIn(searches);
  const unfit = searches.flatMap((search) => (search.found ? [] : search.unfit));
  const tried = [...unfit.map(({ path, reason }) => `${path} ${reason}`), ...reasons];
  const lines = [
    `${missing.map((name) => SERVERS[name].title).join(', ')}: not found and not to be installed here. One of these helps:`,
    ...waysOut(missing).map((way) => `  ${way}`),
    ...(tried.length > 0 ? ['What was tried:'] : []),
    ...tried.map((reason) => `  ${reason}`),
  ];
  return new TollgateError('TG_SETUP_MISSING', lines.join('\n'));
}
