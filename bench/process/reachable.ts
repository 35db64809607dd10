import { type ServerName, SERVER_NAMES, SERVERS } from '../../src/stack/binaries.ts';
import { placeOf } from '../../src/stack/doctor.ts';
import { type Environment, givenUrls, isGiven } from '../../src/stack/environment.ts';
import { accepts } from '../../src/stack/ports.ts';
import { BenchError } from '../bench-error.ts';
import { isLost } from './lost.ts';

/** Between two looks at the servers while a bench runs. */
const LOOK_MS = 2_000;
const ANSWER_MS_MAX = 2_000;

/** A server to which no connection can be made. */
export interface Silence {
  readonly name: ServerName;
  readonly title: string;
  /** Host and port: never a password. */
  readonly address: string;
}

/** Those servers of `names` that do not take connections, as far as `environment` says where they are. */
export async function silentServers(
  names: readonly ServerName[],
  environment: Environment,
): Promise<Silence[]> {
  const asked = names.flatMap((name) =>
    Object.values(givenUrls([name], environment)).flatMap((url) => (url ? [{ name, ...placeOf(url) }] : [])),
  );
  const answers = await Promise.all(asked.map(({ host, port }) => accepts(port, host, ANSWER_MS_MAX)));
  return asked
    .filter((_, i) => answers[i] !== true)
    .map(({ name, host, port }) => ({ name, title: SERVERS[name].title, address: `${host}:${port}` }));
}

/** Throws BenchError where a server that the environment names is not there. */
export async function requireGiven(environment: Environment): Promise<void> {
  const given = SERVER_NAMES.filter((name) => isGiven(name, environment));
  const [silent] = await silentServers(given, environment);
  if (silent === undefined) return;
  const { name, title, address } = silent;
  const variables = SERVERS[name].variables.join(' and ');
  throw new BenchError(
    `${title} does not answer at ${address}, where ${variables} say${name === 'rabbitmq' ? '' : 's'} it is.\n` +
      `Start it there, or unset ${variables}: the bench then starts a server of its own.`,
  );
}

/** A server that went away while the bench ran. */
export function goneError({ title, address }: Silence): BenchError {
  return new BenchError(
    `${title} at ${address} went away while the bench ran, so no figure is shown.\n` +
      'Find out what ended it (memory, disk, a hand), and run the bench again.',
  );
}

/** Looks at all servers every two seconds and calls `onGone` for the first one that is gone. Returns what ends the looking. */
export function watchServers(environment: Environment, onGone: (error: BenchError) => void): () => void {
  const look = async (): Promise<void> => {
    const [silent] = await silentServers(SERVER_NAMES, environment);
    if (silent === undefined) timer = setTimeout(() => void look(), LOOK_MS).unref();
    else onGone(goneError(silent));
  };
  let timer = setTimeout(() => void look(), LOOK_MS).unref();
  return () => clearTimeout(timer);
}

/** What a person is to read of a failure: which server is gone, or that a connection broke; else the error itself. */
export async function explained(error: unknown, environment: Environment): Promise<unknown> {
  const [silent] = await silentServers(SERVER_NAMES, environment);
  if (silent !== undefined) return goneError(silent);
  if (!isLost(error)) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new BenchError(
    `a connection to a server was lost, so no figure is shown: ${message}\n` +
      'All servers answer now: look into their logs, and run the bench again.',
    { cause: error },
  );
}
