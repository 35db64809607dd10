import type { Command } from 'commander';
import type { Config } from '../config-schema.ts';
import { publisherUser } from '../contracts/names.ts';
import { creditsFromText, creditsText } from '../credits.ts';
import { TollgateError } from '../errors.ts';
import { NAME_PATTERN, newUuidV7, UUID_V7_PATTERN } from '../ids.ts';
import type { Accounts, AccountStatement } from '../ledger/accounts.ts';
import type { BrokerUser } from './broker-user.ts';
import { command, commandGroup, matching, withAction } from './command.ts';
import { usageFault } from './failure.ts';

/** `tollgate account`: who pays, and who may spend. */
export function accountCommand(): Command {
  return commandGroup(
    {
      name: 'account',
      summary: 'accounts: make one with a publisher, add credit, look at it',
      examples: ['tollgate account create acme --credits 100', 'tollgate account show acme'],
    },
    [createCommand(), topUpCommand(), showCommand()],
  );
}

const name = matching(NAME_PATTERN, 'a name like acme (a-z, 0-9, - and _)');

interface CreateOptions {
  readonly namespace: string;
  readonly publisher?: string;
  readonly credits?: bigint;
  readonly existing?: true;
  readonly newPassword?: true;
}

function createCommand(): Command {
  const create = command({
    name: 'create',
    summary: 'make an account with a namespace and a publisher that may spend for it',
    examples: [
      'tollgate account create acme',
      'tollgate account create acme --namespace prod --publisher acme-app --credits 12.5 --json',
      'tollgate account create acme --existing --publisher second-app',
    ],
  })
    .argument('<name>', 'name of the account', name)
    .option('--namespace <name>', 'its first namespace', name, 'default')
    .option(
      '--publisher <name>',
      'who may spend for it; RabbitMQ user p-<name> (default: the name of the account)',
      name,
    )
    .option('--credits <n>', 'credit to begin with, e.g. 12.5', credits)
    .option('--existing', 'the account may exist: add what is missing')
    .option('--new-password', "give the publisher's RabbitMQ user a new password");
  return withAction<CreateOptions>(create, async ({ args, options, output, loadConfig }) => {
    const [account = ''] = args;
    const config = await loadConfig(['servers.postgresAdminUrl', 'servers.amqpUrl']);
    const { user, statement } = await createAccount(config, account, options);
    const { brokerUserLines } = await import('./broker-user.ts');
    const publisher = options.publisher ?? account;
    output.result(
      {
        ...statementData(statement),
        publisher,
        amqp_user: user.user,
        amqp_url: user.url,
        rabbitmqctl: user.rabbitmqctl,
      },
      [...statementLines(statement), `publisher  ${publisher}`, '', ...brokerUserLines(user)].join('\n'),
    );
  });
}

/** The broker first: were it to fail later, an account would be there that nobody can use. Every step may be repeated. */
async function createAccount(
  config: Config,
  account: string,
  options: CreateOptions,
): Promise<{ user: BrokerUser; statement: AccountStatement }> {
  const [
    { withDatabase, managementOf },
    { Accounts: AccountsRoom },
    { brokerUser },
    { publisherPermissions },
  ] = await Promise.all([
    import('./stores.ts'),
    import('../ledger/accounts.ts'),
    import('./broker-user.ts'),
    import('../broker/permissions.ts'),
  ]);
  const publisher = options.publisher ?? account;
  return withDatabase(config, async (db) => {
    const accounts: Accounts = new AccountsRoom(db);
    if (!options.existing) await refuseExisting(accounts, account);
    const user = await brokerUser(managementOf(config), {
      user: publisherUser(publisher),
      permissions: publisherPermissions(publisherUser(publisher)),
      isNewPassword: options.newPassword ?? false,
      amqpUrl: config.servers.amqpUrl,
    });
    await unlessThere(accounts.create(account));
    await unlessThere(accounts.addNamespace(`${account}/${options.namespace}`));
    await unlessThere(accounts.addPublisher(publisher));
    await accounts.entitle(publisher, account);
    if (options.credits !== undefined) await accounts.topUp(newUuidV7(), account, options.credits);
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

function topUpCommand(): Command {
  const topUp = command({
    name: 'top-up',
    summary: 'add credit to an account',
    examples: [
      'tollgate account top-up acme --credits 12.5',
      'tollgate account top-up acme --credits 12.5 --id "$ID" --json',
    ],
  })
    .argument('<name>', 'name of the account', name)
    .requiredOption('--credits <n>', 'how much, e.g. 12.5; at most six decimals', credits)
    .option(
      '--id <uuid>',
      'a UUIDv7 of today; the same id never adds twice',
      matching(UUID_V7_PATTERN, 'a UUIDv7'),
    );
  return withAction<{ credits: bigint; id?: string }>(
    topUp,
    async ({ args, options, output, loadConfig }) => {
      const [account = ''] = args;
      const id = options.id ?? newUuidV7();
      const { withDatabase, NEEDS_DATABASE } = await import('./stores.ts');
      const { Accounts: AccountsRoom } = await import('../ledger/accounts.ts');
      const config = await loadConfig(NEEDS_DATABASE);
      const { isNew, freeMicro } = await withDatabase(config, (db) =>
        new AccountsRoom(db).topUp(id, account, options.credits),
      );
      const did = isNew
        ? `added ${creditsText(options.credits)} credits to ${account}`
        : 'added before, nothing changed';
      output.result(
        { account, id, is_new: isNew, amount_micro: options.credits, free_micro: freeMicro },
        `${did}; free: ${creditsText(freeMicro)} (top-up ${id})`,
      );
    },
  );
}

function showCommand(): Command {
  const show = command({
    name: 'show',
    summary: 'an account: its credit and its namespaces',
    examples: ['tollgate account show acme', 'tollgate account show acme --json'],
  }).argument('<name>', 'name of the account', name);
  return withAction(show, async ({ args, output, loadConfig }) => {
    const [account = ''] = args;
    const { withDatabase, NEEDS_DATABASE } = await import('./stores.ts');
    const { Accounts: AccountsRoom } = await import('../ledger/accounts.ts');
    const config = await loadConfig(NEEDS_DATABASE);
    const statement = await withDatabase(config, (db) => new AccountsRoom(db).show(account));
    output.result(statementData(statement), statementLines(statement).join('\n'));
  });
}

/** A parser of `--credits`, in micro-credits. */
function credits(text: string): bigint {
  const amountMicro = creditsFromText(text);
  if (amountMicro === null || amountMicro === 0n)
    usageFault('--credits', 'expects a decimal like 12.5: more than 0, at most six decimals');
  return amountMicro;
}

function statementData(statement: AccountStatement): object {
  return {
    account: statement.name,
    namespaces: statement.namespaces,
    free_micro: statement.freeMicro,
    held_micro: statement.heldMicro,
    captured_micro: statement.capturedMicro,
    credited_micro: statement.creditedMicro,
  };
}

function statementLines(statement: AccountStatement): string[] {
  return [
    `account    ${statement.name}`,
    `namespaces ${statement.namespaces.join(', ')}`,
    `free       ${creditsText(statement.freeMicro)} credits`,
    `held       ${creditsText(statement.heldMicro)}`,
    `spent      ${creditsText(statement.capturedMicro)} of ${creditsText(statement.creditedMicro)}`,
  ];
}
