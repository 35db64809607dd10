import type { Command } from 'commander';
import type { Config } from '../config-schema.ts';
import { nodeUser } from '../contracts/names.ts';
import { TollgateError } from '../errors.ts';
import { MODEL_PATTERN, NAME_PATTERN } from '../ids.ts';
import type { Node } from '../network/types.ts';
import type { LiveWorker } from '../workers/types.ts';
import { command, commandGroup, integer, matching, withAction } from './command.ts';
import { usageFault } from './failure.ts';
import { admission, drainCommand, showCommand, standingData, undrainCommand } from './node-health.ts';
import { table } from './output.ts';

/** `tollgate node`: the machines that may run jobs. */
export function nodeCommand(): Command {
  return commandGroup(
    {
      name: 'node',
      summary: 'nodes: register one with its key and queues, list them, see how one stands, drain it',
      examples: ['tollgate node register gpu-1 --owner acme --models tiny', 'tollgate node list'],
    },
    [registerCommand(), listCommand(), showCommand(), drainCommand(), undrainCommand()],
  );
}

interface RegisterOptions {
  readonly owner: string;
  readonly models: readonly string[];
  readonly key?: string;
  readonly region?: string;
  readonly vramGb?: number;
  readonly active?: true;
  readonly newPassword?: true;
}

function registerCommand(): Command {
  const register = command({
    name: 'register',
    summary:
      'register a node: its identity key, models, queues and RabbitMQ user; again to change its models and place',
    examples: [
      'tollgate node register gpu-1 --owner acme --models tiny',
      'tollgate node register gpu-1 --owner acme --models tiny,llama-3.1-8b-instruct --key /etc/tollgate/gpu-1.pem --active --json',
      'tollgate node register gpu-1 --owner acme --models tiny --region eu-west --vram-gb 24',
    ],
  })
    .argument('<id>', 'id of the node', matching(NAME_PATTERN, 'a name like gpu-1 (a-z, 0-9, - and _)'))
    .requiredOption('--owner <name>', 'who owns it', matching(NAME_PATTERN, 'a name'))
    .requiredOption('--models <names>', 'models it may serve, with commas between', modelNames)
    .option('--region <name>', 'where it stands; jobs may ask for it', matching(NAME_PATTERN, 'a name'))
    .option('--vram-gb <n>', 'memory of all its cards, in GB; jobs may ask for it', integer(1, 100_000))
    .option('--key <file>', 'its private key; made if there is no such file (default: <id>.pem)')
    .option(
      '--active',
      'trust it at once; else it begins on probation and each result is verified before it is paid',
    )
    .option('--new-password', 'give its RabbitMQ user a new password');
  return withAction<RegisterOptions>(register, async ({ args, options, output, loadConfig }) => {
    const [id = ''] = args;
    const config = await loadConfig(['servers.postgresAdminUrl', 'servers.amqpUrl']);
    const keyFile = options.key ?? `${id}.pem`;
    const { user, publicKey } = await registerNode(config, id, keyFile, options);
    const { brokerUserLines } = await import('./broker-user.ts');
    const { owner, models, region = null, vramGb = null } = options;
    output.result(
      {
        node: id,
        owner,
        models,
        region,
        vram_gb: vramGb,
        key_file: keyFile,
        public_key: publicKey.toString('base64'),
        amqp_user: user.user,
        amqp_url: user.url,
        rabbitmqctl: user.rabbitmqctl,
      },
      [`registered ${id} for ${models.join(', ')}; its key is in ${keyFile}`, ...brokerUserLines(user)].join(
        '\n',
      ),
    );
  });
}

/** The queues and the broker user first, the record last: a coordinator never sends to a node that has no queue. */
async function registerNode(config: Config, id: string, keyFile: string, options: RegisterOptions) {
  const [{ withDatabase, managementOf }, { Nodes }, { brokerUser }, { nodePermissions }] = await Promise.all([
    import('./stores.ts'),
    import('../network/nodes.ts'),
    import('./broker-user.ts'),
    import('../broker/permissions.ts'),
  ]);
  const publicKey = await publicKeyOf(keyFile);
  await declareQueues(config, id);
  const user = await brokerUser(managementOf(config), {
    user: nodeUser(id),
    permissions: nodePermissions(id),
    isNewPassword: options.newPassword ?? false,
    amqpUrl: config.servers.amqpUrl,
  });
  const { owner, models, region = null, vramGb = null } = options;
  const lifecycle = options.active ? 'active' : 'probation';
  await withDatabase(config, async (db) => {
    const nodes = new Nodes(db);
    await nodes.register({ id, owner, publicKey, models, lifecycle, region, vramGb });
    if (options.active) await nodes.setLifecycle(id, 'active');
  });
  return { user, publicKey };
}

/** The raw public key of the key in `file`, which is made if it is not there. */
async function publicKeyOf(file: string): Promise<Buffer> {
  const { generateNodeKey, rawPublicKey, readNodeKey, writeNodeKey } = await import(
    '../workers/agent/keys.ts'
  );
  const fresh = generateNodeKey();
  try {
    await writeNodeKey(file, fresh);
    return rawPublicKey(fresh);
  } catch (error) {
    if (!(error instanceof TollgateError && error.code === 'TG_ALREADY_EXISTS')) throw error;
    return rawPublicKey(await readNodeKey(file));
  }
}

async function declareQueues(config: Config, id: string): Promise<void> {
  const [{ operatorBroker }, { createLog }] = await Promise.all([
    import('./client-broker.ts'),
    import('../ops/log.ts'),
  ]);
  const broker = operatorBroker(config, createLog({ level: 'silent' }), async (topology) => {
    await topology.declareCore();
    await topology.declareNode(id);
  });
  await broker.start();
  await broker.stop();
}

function modelNames(text: string): readonly string[] {
  const names = text.split(',').map((name) => name.trim());
  const wrong = names.find((name) => !new RegExp(MODEL_PATTERN).test(name));
  if (wrong !== undefined) usageFault('--models', `${JSON.stringify(wrong)} is no model name`);
  return names;
}

function listCommand(): Command {
  const list = command({
    name: 'list',
    summary: 'the registered nodes and, where TOLLGATE_REDIS_URL is set, how their workers stand',
    examples: ['tollgate node list', 'tollgate node list --json'],
  });
  return withAction(list, async ({ output, loadConfig }) => {
    const config = await loadConfig(['servers.postgresAdminUrl']);
    const [{ withDatabase }, { Nodes }] = await Promise.all([
      import('./stores.ts'),
      import('../network/nodes.ts'),
    ]);
    const nodes = await withDatabase(config, (db) => new Nodes(db).list());
    const workers = config.servers.redisUrl === '' ? [] : await liveWorkers(config);
    const live = new Map(workers.map((worker) => [worker.node, worker]));
    const rows = nodes.map((node) => nodeRow(node, admission(node, config), live.get(node.id)));
    const head = ['node', 'owner', 'lifecycle', 'new jobs', 'region', 'vram', 'worker', 'slots', 'models'];
    output.result(
      nodes.map((node) => ({ ...nodeData(node, live.get(node.id)), ...standingData(node, config) })),
      nodes.length === 0 ? 'no nodes; tollgate node register adds one' : table([head, ...rows]),
    );
  });
}

async function liveWorkers(config: Config): Promise<LiveWorker[]> {
  const [{ FleetRedis }, { RedisFleetRegistry }, { createLog }] = await Promise.all([
    import('../workers/redis.ts'),
    import('../workers/registry.ts'),
    import('../ops/log.ts'),
  ]);
  const redis = new FleetRedis(config.servers, config.fleet, createLog({ level: 'silent' }));
  try {
    await redis.start();
    return await new RedisFleetRegistry(redis, config.fleet, () => false).list();
  } finally {
    await redis.stop();
  }
}

function nodeRow(node: Node, newJobs: string, worker: LiveWorker | undefined): string[] {
  const { id, owner, lifecycle, models, region, vramGb } = node;
  const vram = vramGb === null ? '-' : `${vramGb} GB`;
  const state = worker === undefined ? 'away' : worker.isDraining ? 'draining' : 'live';
  const slots = worker === undefined ? '' : `${worker.slotsInUse}/${worker.slotsTotal}`;
  return [id, owner, lifecycle, newJobs, region ?? '-', vram, state, slots, [...models].join(', ')];
}

function nodeData(node: Node, worker: LiveWorker | undefined): object {
  const { id, owner, models, publicKey, region, vramGb } = node;
  const live = worker && {
    session: worker.session,
    slots_total: worker.slotsTotal,
    slots_in_use: worker.slotsInUse,
    warm_models: worker.warmModels,
    is_draining: worker.isDraining,
    heartbeat_age_ms: worker.heartbeatAgeMs,
  };
  return {
    node: id,
    owner,
    models: [...models],
    region,
    vram_gb: vramGb,
    public_key: publicKey.toString('base64'),
    worker: live ?? null,
  };
}
