import { randomBytes } from 'node:crypto';
import { Management } from '../broker/management.ts';
import { nodePermissions, type Permissions, publisherPermissions, vhostOf } from '../broker/permissions.ts';
import type { Config } from '../config-schema.ts';
import { nodeUser, publisherUser } from '../contracts/names.ts';
import { newUuidV7 } from '../ids.ts';
import { Accounts } from '../ledger/accounts.ts';
import { Models } from '../network/models.ts';
import { Nodes } from '../network/nodes.ts';
import type { Database } from '../postgres/database.ts';
import { generateNodeKey, rawPublicKey } from '../workers/agent/keys.ts';
import type { DemoSettings } from './settings.ts';
import { modelsOf, type World } from './world.ts';

/** A node's login and its identity key. */
export interface NodeLogin {
  readonly id: string;
  readonly amqpUrl: string;
  /** Ed25519, PKCS #8 PEM. */
  readonly privateKey: string;
}

/** Who may log in to RabbitMQ, by publisher's name; the stranger is among them. */
export interface Logins {
  readonly publishers: ReadonlyMap<string, string>;
  readonly nodes: readonly NodeLogin[];
}

/**
 * Makes the records of the world with the functions of the operator's commands, and one RabbitMQ user per publisher and node
 * through the management API. `db`: an operator's login. Throws TG_ALREADY_EXISTS where a name is taken.
 */
export async function provision(
  world: World,
  creditMicro: ReadonlyMap<string, bigint>,
  config: Config,
  db: Database,
): Promise<Logins> {
  const { amqpUrl } = config.servers;
  const management = managementOf(config);
  const [publishers, nodes] = await Promise.all([
    publisherLogins(world, management, amqpUrl),
    nodeLogins(world, management, amqpUrl),
    makeAccounts(world, creditMicro, new Accounts(db)),
    makeModels(world, new Models(db)),
  ]);
  const records = new Nodes(db);
  for (const { id, privateKey } of nodes) {
    const node = world.nodes.find((one) => one.id === id);
    if (node !== undefined) await records.register({ ...node, publicKey: rawPublicKey(privateKey) });
  }
  const exported = nodes.map(({ id, amqpUrl: url, privateKey }) => ({
    id,
    amqpUrl: url,
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }));
  return { publishers, nodes: exported };
}

/** Deletes the run's RabbitMQ users where the broker was given: others need not keep them. */
export async function forgetLogins(
  { publishers, stranger, nodes }: World,
  { config, tag }: Pick<DemoSettings, 'config' | 'tag'>,
): Promise<void> {
  if (tag === '') return;
  const management = managementOf(config);
  const names = [...publishers.map(({ name }) => name), stranger];
  const users = [...names.map(publisherUser), ...nodes.map(({ id }) => nodeUser(id))];
  await Promise.all(users.map((user) => management.deleteUser(user)));
}

function managementOf({ servers }: Config): Management {
  const { amqpUrl, amqpAdminUrl, connectTimeoutMs } = servers;
  return new Management({ url: amqpAdminUrl ?? '', vhost: vhostOf(amqpUrl), requestMsMax: connectTimeoutMs });
}

async function makeAccounts(
  world: World,
  creditMicro: ReadonlyMap<string, bigint>,
  accounts: Accounts,
): Promise<void> {
  for (const { name, namespaces } of world.accounts) {
    await accounts.create(name);
    for (const namespace of namespaces) await accounts.addNamespace(namespace);
    const amountMicro = creditMicro.get(name) ?? 0n;
    if (amountMicro > 0n) await accounts.topUp(newUuidV7(), name, amountMicro);
  }
  for (const { name, accounts: entitled } of world.publishers) {
    await accounts.addPublisher(name);
    for (const account of entitled) await accounts.entitle(name, account);
  }
}

async function makeModels(world: World, models: Models): Promise<void> {
  for (const model of modelsOf(world)) await models.add(model);
}

/** The stranger has a publisher's rights on the broker, and no record. */
async function publisherLogins(
  { publishers, stranger }: World,
  management: Management,
  amqpUrl: string,
): Promise<ReadonlyMap<string, string>> {
  const names = [...publishers.map(({ name }) => name), stranger];
  const logins = names.map(async (name) => {
    const user = publisherUser(name);
    return [name, await login(management, amqpUrl, user, publisherPermissions(user))] as const;
  });
  return new Map(await Promise.all(logins));
}

function nodeLogins({ nodes }: World, management: Management, amqpUrl: string) {
  return Promise.all(
    nodes.map(async ({ id }) => ({
      id,
      amqpUrl: await login(management, amqpUrl, nodeUser(id), nodePermissions(id)),
      privateKey: generateNodeKey(),
    })),
  );
}

/** Makes a user with a password of its own; returns the URL by which it logs in. */
async function login(
  management: Management,
  amqpUrl: string,
  user: string,
  permissions: Permissions,
): Promise<string> {
  const password = randomBytes(24).toString('hex');
  await management.createUser(user, password, permissions);
  const url = new URL(amqpUrl);
  url.username = user;
  url.password = password;
  return url.href;
}
