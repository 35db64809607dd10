import { publisherPermissions } from '../broker/permissions.ts';
import type { Config } from '../config-schema.ts';
import { publisherUser } from '../contracts/names.ts';
import { TollgateError } from '../errors.ts';
import { newUuidV7 } from '../ids.ts';
import { Accounts, type AccountStatement } from '../ledger/accounts.ts';
import { type BrokerUser, brokerUser } from './broker-user.ts';
import { managementOf, withDatabase } from './stores.ts';

/** An account to make, with all it needs to send a first job. */
export interface NewAccount {
  readonly account: string;
  /** The part after the slash. */
  readonly namespace: string;
  readonly publisher: string;
  /** Credit to begin with, in micro-credits; null: none. */
  readonly amountMicro: bigint | null;
  /** The account may exist; what it lacks is added. */
  readonly isExisting: boolean;
  readonly isNewPassword: boolean;
}

/**
 * Makes an account with a namespace, a publisher, its RabbitMQ user and credit. The broker first: were it to fail later, an
 * account would be there that nobody can use; every step may be repeated. Throws TG_ALREADY_EXISTS, StoreError.
 */
export async function createAccount(
  config: Config,
  wanted: NewAccount,
): Promise<{ readonly user: BrokerUser; readonly statement: AccountStatement }> {
  const { account, namespace, publisher, amountMicro, isExisting, isNewPassword } = wanted;
  const name = publisherUser(publisher);
  return withDatabase(config, async (db) => {
    const accounts = new Accounts(db);
    if (!isExisting) await refuseExisting(accounts, account);
    const user = await brokerUser(managementOf(config), {
      user: name,
      permissions: publisherPermissions(name),
      isNewPassword,
      amqpUrl: config.servers.amqpUrl,
    });
    await unlessThere(accounts.create(account));
    await unlessThere(accounts.addNamespace(`${account}/${namespace}`));
    await unlessThere(accounts.addPublisher(publisher));
    await accounts.entitle(publisher, account);
    if (amountMicro !== null) await accounts.topUp(newUuidV7(), account, amountMicro);
    return { user, statement: await accounts.show(account) };
  });
}

async function refuseExisting(accounts: Accounts, account: string): Promise<void> {
  const isThere = await accounts.show(account).then(
    () => true,
    (error: unknown) => {
      if (error instanceof TollgateError && error.code === 'TG_NOT_FOUND') return false;
      throw error;
    },
  );
  if (isThere)
    throw new TollgateError('TG_ALREADY_EXISTS', `account ${account}; --existing adds what it lacks`);
}

async function unlessThere(change: Promise<unknown>): Promise<void> {
  await change.catch((error: unknown) => {
    if (!(error instanceof TollgateError && error.code === 'TG_ALREADY_EXISTS')) throw error;
  });
}
