import { TollgateError } from '../errors.ts';
import { type ServerName, SERVERS } from './binaries.ts';
import type { StackUrls } from './types.ts';

/** What `process.env` is. */
export type Environment = Readonly<Record<string, string | undefined>>;

const VARIABLES = [
  ['postgresAdmin', 'TOLLGATE_POSTGRES_ADMIN_URL'],
  ['redis', 'TOLLGATE_REDIS_URL'],
  ['amqp', 'TOLLGATE_AMQP_URL'],
  ['amqpAdmin', 'TOLLGATE_AMQP_ADMIN_URL'],
  ['mongo', 'TOLLGATE_MONGO_URL'],
] as const;

/** The environment variables by which `tollgate` and the tests find these servers. */
export function stackEnvironment(urls: StackUrls): Record<string, string> {
  return Object.fromEntries(
    VARIABLES.filter(([key]) => urls[key] !== '').map(([key, variable]) => [variable, urls[key]]),
  );
}

/** True when the environment names this server. Throws TG_SETUP_MISSING when it names only half of it. */
export function isGiven(name: ServerName, environment: Environment): boolean {
  const { title, variables } = SERVERS[name];
  const missing = variables.filter((variable) => !environment[variable]);
  if (missing.length > 0 && missing.length < variables.length) {
    throw new TollgateError('TG_SETUP_MISSING', `to use a given ${title}, set ${missing.join(' and ')} too`);
  }
  return missing.length === 0;
}

/** The URLs of these servers as the environment has them. */
export function givenUrls(given: readonly ServerName[], environment: Environment): Partial<StackUrls> {
  const variables = given.flatMap((name) => SERVERS[name].variables);
  return Object.fromEntries(
    VARIABLES.filter(([, variable]) => variables.includes(variable)).map(([key, variable]) => [
      key,
      environment[variable],
    ]),
  );
}
