import type { Command } from 'commander';
import { creditsFromText, creditsText } from '../credits.ts';
import { NAME_PATTERN, newUuidV7, UUID_V7_PATTERN } from '../ids.ts';
import type { AccountStatement } from '../ledger/accounts.ts';
import { command, commandGroup, matching, withAction } from './command.ts';
import { usageFault } from './failure.ts';

/** `tollgate account`: who pays, and who may spend. */
export function accountCommand(): Command {
  return commandGroup(
    {
      name: 'account',
      summary: 'accounts: make one with a publisher, add credit, limit it, look at it',
      examples: ['tollgate account create acme --credits 100', 'tollgate account show acme'],
    },
    [createCommand(), topUpCommand(), limitCommand(), showCommand()],
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
    const [{ createAccount }, { brokerUserLines }] = await Promise.all([
      import('./new-account.ts'),
      import('./broker-user.ts'),
    ]);
    const { publisher = account, namespace, credits: amountMicro = null } = options;
    const isExisting = options.existing ?? false;
    const isNewPassword = options.newPassword ?? false;
    const wanted = { account, namespace, publisher, amountMicro, isExisting, isNewPassword };
    const { user, statement } = await createAccount(config, wanted);
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

interface LimitOptions {
  readonly jobsPerSecond?: number;
  readonly burst?: number;
  readonly openLocks?: number;
  readonly queued?: number;
}

function limitCommand(): Command {
  const limit = command({
    name: 'limit',
    summary: 'set what an account may ask of each coordinator; what is not named stays',
    examples: [
      'tollgate account limit acme --jobs-per-second 50 --burst 200',
      'tollgate account limit acme --open-locks 100 --queued 20',
      'tollgate account limit acme --jobs-per-second default --json',
    ],
  })
    .argument('<name>', 'name of the account', name)
    .option('--jobs-per-second <n>', "jobs a second, or default for the configuration's", limitNumber)
    .option('--burst <n>', 'how many of them at once, or default', limitNumber)
    .option('--open-locks <n>', 'jobs that hold credit at a time, roughly, or default', limitNumber)
    .option('--queued <n>', 'jobs that wait for a slot in one pool, or default', limitNumber);
  return withAction<LimitOptions>(limit, async ({ args, options, output, loadConfig }) => {
    const [account = ''] = args;
    const { jobsPerSecond, burst, openLocks, queued } = options;
    if ([jobsPerSecond, burst, openLocks, queued].every((given) => given === undefined))
      usageFault('tollgate account limit', 'expects at least one limit, e.g. --jobs-per-second 50');
    const { withDatabase, NEEDS_DATABASE } = await import('./stores.ts');
    const { Accounts: AccountsRoom } = await import('../ledger/accounts.ts');
    const config = await loadConfig(NEEDS_DATABASE);
    const statement = await withDatabase(config, async (db) => {
      const accounts = new AccountsRoom(db);
      await accounts.limit(account, {
        ...(jobsPerSecond === undefined ? {} : { jobsPerSecond }),
        ...(burst === undefined ? {} : { burstJobs: burst }),
        ...(openLocks === undefined ? {} : { openLocksMax: openLocks }),
        ...(queued === undefined ? {} : { queuedMax: queued }),
      });
      return accounts.show(account);
    });
    output.result(statementData(statement), statementLines(statement).join('\n'));
  });
}

/** The largest limit that any of them takes. */
const LIMIT_MAX = 1_000_000;

/** A parser of limits; `default` is 0, which gives the configuration's back. */
function limitNumber(text: string): number {
  if (text === 'default') return 0;
  const number = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  if (number < 1 || number > LIMIT_MAX)
    usageFault('a limit', `expects a whole number from 1 to ${LIMIT_MAX}, or default`);
  return number;
}

function showCommand(): Command {
  const show = command({
    name: 'show',
    summary: 'an account: its credit, its namespaces, its limits and who may spend for it',
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
    limits: {
      jobs_per_second: statement.limits.jobsPerSecond,
      burst: statement.limits.burstJobs,
      open_locks: statement.limits.openLocksMax,
      queued: statement.limits.queuedMax,
    },
    publishers: statement.publishers.map(({ name: publisher, bannedMs }) => ({
      name: publisher,
      cut_off_ms: bannedMs,
    })),
  };
}

function statementLines(statement: AccountStatement): string[] {
  return [
    `account    ${statement.name}`,
    `namespaces ${statement.namespaces.join(', ')}`,
    `free       ${creditsText(statement.freeMicro)} credits`,
    `held       ${creditsText(statement.heldMicro)}`,
    `spent      ${creditsText(statement.capturedMicro)} of ${creditsText(statement.creditedMicro)}`,
    `limits     ${limitsText(statement.limits)}`,
    `spenders   ${statement.publishers.map(publisherText).join(', ')}`,
  ];
}

function limitsText(limits: AccountStatement['limits']): string {
  const { jobsPerSecond, burstJobs, openLocksMax, queuedMax } = limits;
  const own = [
    jobsPerSecond && `${jobsPerSecond} jobs a second`,
    burstJobs && `${burstJobs} at once`,
    openLocksMax && `${openLocksMax} open locks`,
    queuedMax && `${queuedMax} waiting`,
  ].filter(Boolean);
  return own.length === 0 ? "the configuration's" : `${own.join(', ')}; else the configuration's`;
}

function publisherText({ name: publisher, bannedMs }: AccountStatement['publishers'][number]): string {
  return bannedMs > 0 ? `${publisher} (cut off for another ${Math.ceil(bannedMs / 1_000)} s)` : publisher;
}
