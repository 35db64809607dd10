import { type Static, Type } from 'typebox';

const closed = { additionalProperties: false } as const;

const int = (fallback: number, minimum: number, maximum: number, description: string) =>
  Type.Integer({ default: fallback, minimum, maximum, description });

const section = <P extends Type.TProperties>(properties: P) => Type.Object(properties, closed);

/**
 * Every bound Tollgate has, with its unit (last word of the name), default and reason. `docs/configuration.md` is generated
 * from here and a test compares the two. `config.ts` reads it from flags, environment, credential files and a TOML file.
 */
export const ConfigSchema = section({
  servers: section({
    postgresUrl: Type.String({ description: 'Login of role tollgate_dispatcher. TOLLGATE_POSTGRES_URL.' }),
    postgresSettlerUrl: Type.Union([Type.Null(), Type.String()], {
      default: null,
      description:
        'Login of role tollgate_settler; null: postgresUrl with that user name and the same password.',
    }),
    postgresMaintainerUrl: Type.Union([Type.Null(), Type.String()], {
      default: null,
      description:
        'Login of role tollgate_maintainer; null: postgresUrl with that user name and the same password.',
    }),
    postgresAuditorUrl: Type.Union([Type.Null(), Type.String()], {
      default: null,
      description:
        'Login of role tollgate_auditor, for tollgate audit; null: postgresAdminUrl acting as it, else postgresUrl with that user name.',
    }),
    postgresAdminUrl: Type.Union([Type.Null(), Type.String()], {
      default: null,
      description: 'Superuser login, for migrations and operator commands only. TOLLGATE_POSTGRES_ADMIN_URL.',
    }),
    redisUrl: Type.String({
      description:
        'One server, or nodes of a Redis Cluster, which then needs cluster-require-full-coverage no. TOLLGATE_REDIS_URL.',
    }),
    amqpUrl: Type.String({ description: "The coordinators' RabbitMQ user. TOLLGATE_AMQP_URL." }),
    amqpAdminUrl: Type.Union([Type.Null(), Type.String()], {
      default: null,
      description:
        "RabbitMQ's management API: for operator commands, and for coordinators to cut off a publisher that floods. TOLLGATE_AMQP_ADMIN_URL.",
    }),
    amqpClientUrl: Type.Union([Type.Null(), Type.String()], {
      default: null,
      description:
        "A publisher's RabbitMQ user, for tollgate submit; null: amqpUrl. TOLLGATE_AMQP_CLIENT_URL.",
    }),
    mongoUrl: Type.String({ description: 'TOLLGATE_MONGO_URL, with the database in its path.' }),
    connectTimeoutMs: int(5_000, 100, 60_000, 'Longest wait for one connection attempt.'),
    reconnectDelayMsMax: int(2_000, 50, 60_000, 'Reconnects back off with jitter up to this.'),
  }),
  secrets: section({
    digestKey: Type.String({
      minLength: 32,
      description:
        'Key of the body digests, at least 32 characters, the same on all coordinators. TOLLGATE_DIGEST_KEY.',
    }),
  }),
  http: section({
    host: Type.String({
      default: '127.0.0.1',
      description: 'Address of /metrics, /livez, /readyz and /v1/…/explain; none of them wants a login.',
    }),
    port: int(9464, 0, 65_535, '0 takes a free port.'),
    headerBytesMax: int(8_192, 1_024, 65_536, 'Longest request head; a longer one is answered 431.'),
    requestMsMax: int(10_000, 100, 60_000, 'Longest wait for a request to arrive, and for its answer.'),
    connectionsMax: int(128, 1, 10_000, 'Connections at a time; more are closed at once.'),
    checkMsMax: int(1_000, 50, 30_000, 'A readiness check that takes longer counts as failed.'),
    readyCacheMs: int(
      1_000,
      0,
      60_000,
      'Answers of /readyz are this old at most, so probes cost a fixed amount.',
    ),
  }),
  line: section({
    batchJobsMax: int(512, 1, 1_000, 'Jobs in one batch; Lua unpack fails above about 7,900 arguments.'),
    batchesInFlightMax: int(
      2,
      1,
      8,
      'One makes everyone wait for the last confirm; more than two won nothing.',
    ),
    batchEndsMax: int(
      4,
      1,
      64,
      'Batches of each direction that are past their commit and dispatch and only reply; and as many that trace and acknowledge.',
    ),
    gatherMs: int(
      25,
      0,
      1_000,
      'Traces, acknowledgements and the refusals of a flood go together, this long after the last of them; after a quiet time they go at once.',
    ),
    prefetchMin: int(16, 1, 500, 'Least unacknowledged deliveries of a pool queue.'),
    prefetchMax: int(1_500, 16, 5_000, 'Most of them; more only moves the backlog into our memory.'),
    heldBytesMax: int(
      268_435_456,
      1_048_576,
      4_294_967_296,
      'Bytes of unacknowledged bodies over all consumers.',
    ),
    holdMsMax: int(30_000, 100, 60_000, 'A held delivery keeps the broker from truncating its log.'),
    pauseAfterMs: int(
      1_000,
      10,
      30_000,
      'A full pool holds its deliveries this long before it hands them back.',
    ),
    retryPausedMs: int(1_000, 50, 60_000, 'A paused pool tries again after this even if no wake-up came.'),
    stageRetryMs: int(
      20_000,
      100,
      60_000,
      'How long a stage repeats a call to a server that is away before it hands the batch back.',
    ),
    stageRetryDelayMsMax: int(1_000, 10, 10_000, 'Longest pause between two such calls.'),
    intakesMax: int(
      2_000,
      1,
      60_000,
      'Pools that a coordinator consumes; the jobs of more wait. Each takes a channel, and RabbitMQ’s channel_max, 2,047 unless it is set, must leave some for other work.',
    ),
    poolsMax: int(
      256,
      0,
      10_000,
      'Pools with a constraint that jobs may open, over all models: each is two queues. Beyond it such jobs are refused.',
    ),
    batchShare: Type.Number({
      default: 0.1,
      minimum: 0,
      maximum: 0.5,
      description: 'Share that priority batch keeps when both wait.',
    }),
    replyTriesMax: int(3, 1, 10, 'Tries of a reply that was returned or nacked.'),
    replyTryMsMax: int(5_000, 100, 60_000, 'All tries of one reply end within this.'),
    repliesPendingMax: int(
      10_000,
      100,
      1_000_000,
      'Replies being tried again; beyond it they become events at once.',
    ),
    suspectMs: int(
      60_000,
      0,
      3_600_000,
      'After a start redelivered messages are taken one at a time for this long: one of them may have killed us.',
    ),
    suspectTriesMax: int(3, 2, 100, 'Tries of such a message; then it is dead-lettered.'),
    drainMs: int(
      20_000,
      100,
      600_000,
      'SIGTERM: how long batches under way, or the jobs of a worker, may take before the hard stop.',
    ),
  }),
  limits: section({
    publisherJobsPerSecond: int(
      10_000,
      1,
      1_000_000,
      'Jobs a second that one publisher may send through one coordinator; more are refused with TG_RATE_LIMITED.',
    ),
    publisherBurstJobs: int(20_000, 1, 10_000_000, 'How many of them may come at once.'),
    accountJobsPerSecond: int(
      5_000,
      1,
      1_000_000,
      'The same for one account; tollgate account limit sets another number for one of them, as for the next three.',
    ),
    accountBurstJobs: int(20_000, 1, 10_000_000, 'How many of them may come at once.'),
    accountOpenLocksMax: int(
      50_000,
      1,
      10_000_000,
      'Credit locks of one account that are open at a time, roughly; more jobs are refused with TG_OPEN_LOCKS.',
    ),
    accountQueuedMax: int(
      10_000,
      1,
      10_000_000,
      'Jobs of one account that wait for a slot in one pool and one coordinator; more are refused with TG_QUEUED_JOBS. RabbitMQ delivers line.prefetchMax at most, so only a smaller number has an effect.',
    ),
    floodJobsPerSecond: int(
      2_000,
      1,
      1_000_000,
      'Refusals a second beyond which a publisher floods: less than half of what one coordinator takes in (npm run bench -- flood).',
    ),
    floodMs: int(3_000, 1_000, 600_000, 'A publisher that floods for so long is cut off.'),
    holdOffMs: int(60_000, 1_000, 86_400_000, 'For how long it is cut off.'),
    refreshMs: int(
      1_000,
      50,
      60_000,
      'How often the open locks of accounts near their bound are counted, and ends of a cut-off are looked for.',
    ),
  }),
  results: section({
    prefetch: int(1_000, 16, 5_000, 'Unacknowledged results; two batches and a little.'),
    verifySampleShare: Type.Number({
      default: 0.01,
      minimum: 0,
      maximum: 1,
      description: 'Share of results of active nodes whose signature is checked before settlement.',
    }),
    verifyAmountMicro: int(
      10_000_000,
      0,
      Number.MAX_SAFE_INTEGER,
      'Locks of at least this are always checked before settlement.',
    ),
  }),
  ledger: section({
    connectionsMax: int(4, 1, 64, 'PostgreSQL connections per role; the hot path uses two at a time.'),
    statementMsMax: int(2_000, 100, 60_000, 'Nothing on the primary may hold a snapshot longer.'),
    lockWaitMsMax: int(1_500, 50, 60_000, 'Longest wait for a row lock.'),
    startWindowMs: int(20_000, 1_000, 300_000, 'From the lock to the moment the worker must have begun.'),
    deadlineGraceMs: int(5_000, 0, 600_000, 'Added to start window and timeout before a job is overdue.'),
    batchRetriesMax: int(5, 0, 20, 'Repeats of a batch after 40P01 or 40001.'),
    uncountedMax: int(
      20,
      0,
      90,
      'Attempts of one job that may be given up without using a try: a node that is full, gone or stopping.',
    ),
  }),
  retries: section({
    delayMsMin: int(
      250,
      1,
      60_000,
      'Pause before the second retry of a job; doubles with each, half of it random.',
    ),
    delayMsMax: int(30_000, 1, 3_600_000, 'Longest such pause.'),
    firstTokenMs: int(
      60_000,
      100,
      3_600_000,
      'From the start of an attempt to its first token; then another node is asked.',
    ),
  }),
  fleet: section({
    heartbeatMs: int(5_000, 100, 60_000, 'How often a worker speaks.'),
    lostAfterMs: int(
      15_000,
      300,
      600_000,
      'Silence after which a worker is lost. A heartbeat waits in RabbitMQ for 15 s at most.',
    ),
    leaseTtlMs: int(30_000, 1_000, 600_000, 'A lease not extended by a heartbeat ends after this.'),
    cells: int(1, 1, 256, 'Hash-tagged groups of keys, for Redis Cluster.'),
    keyPrefix: Type.String({
      default: 'tollgate',
      pattern: '^[a-z0-9_-]{1,32}$',
      description: 'First part of every Redis key and channel.',
    }),
    commandMsMax: int(1_000, 50, 30_000, 'Longest wait for one Redis call.'),
  }),
  broker: section({
    heartbeatS: int(10, 2, 60, 'AMQP heartbeat.'),
    unconfirmedMax: int(4_096, 16, 65_536, 'Publishes without a confirm; beyond it publishing waits.'),
    confirmMsMax: int(10_000, 500, 120_000, 'A publish not confirmed by then is unknown.'),
    poolQueueBytesMax: int(
      1_073_741_824,
      1_048_576,
      1_099_511_627_776,
      'Length of one pool queue; beyond it publishers get a nack. Chosen once: a queue that exists keeps its own.',
    ),
    nodeQueueLengthMax: int(
      10_000,
      16,
      1_000_000,
      "Length of a node's queue; beyond it a dispatch is nacked. Chosen once, as poolQueueBytesMax.",
    ),
    spoolBytesMax: int(
      1_073_741_824,
      65_536,
      1_099_511_627_776,
      'Length of traces.spool; when it is full intake stops. Chosen once, as poolQueueBytesMax.',
    ),
    deadBytesMax: int(
      268_435_456,
      65_536,
      1_099_511_627_776,
      'Length of the dead-letter queue; oldest drop first there. Chosen once, as poolQueueBytesMax.',
    ),
  }),
  traces: section({
    writeMsMax: int(3_000, 100, 60_000, 'A bulk write not done by then goes to the spool queue.'),
    spoolDrainMs: int(1_000, 50, 60_000, 'How often the drain tries MongoDB again.'),
    awayAfterFailures: int(
      1,
      1,
      100,
      'Failed writes after which the spool is used without asking MongoDB first.',
    ),
    connectionsMax: int(
      8,
      1,
      256,
      'MongoDB connections: batches of traces each way, events, the drain and look-ups at once. What finds none waits.',
    ),
    spoolMessageBytesMax: int(
      524_288,
      4_096,
      8_388_608,
      'Documents are gathered into spool messages of about this size; one larger document travels alone.',
    ),
    spoolPrefetch: int(8, 1, 256, 'Spool messages the drain writes at once.'),
  }),
  sweeps: section({
    everyMs: int(1_000, 50, 60_000, 'Overdue jobs, lost workers, owed replies, expired leases.'),
    batchJobsMax: int(500, 1, 5_000, 'Jobs one sweep step ends at most.'),
  }),
  health: section({
    strikeHalfLifeMs: int(3_600_000, 1_000, 604_800_000, 'A strike counts half as much after this.'),
    strikeScoreMax: int(
      5,
      1,
      1_000,
      'A node whose strikes add up to this is ejected: one forgery, or two losses in half an hour.',
    ),
    holdMsMin: int(
      60_000,
      100,
      3_600_000,
      'The first ejection lasts for this; each soon after one for twice as long.',
    ),
    holdMsMax: int(3_600_000, 1_000, 86_400_000, 'No ejection is longer.'),
    trickleMs: int(60_000, 0, 3_600_000, 'After an ejection a node gets one job at a time for this long.'),
    ejectedPercentMax: int(
      30,
      0,
      100,
      'Most nodes of a pool that are ejected at once: what all nodes share is no fault of theirs.',
    ),
    flushMs: int(200, 10, 60_000, 'Strikes are gathered for this long before they are written.'),
    pendingMax: int(10_000, 1, 1_000_000, 'Strikes that wait while PostgreSQL is away; the oldest go first.'),
    strikeKeepDays: int(90, 1, 3_650, 'How long strikes can be looked up.'),
  }),
  maintenance: section({
    leaseTtlMs: int(
      15_000,
      500,
      600_000,
      'The owner of maintenance is replaced when it has not been heard of for this long.',
    ),
    recordDays: int(30, 1, 3_650, 'How long the record of a run is kept.'),
  }),
  directory: section({
    pollMs: int(1_000, 50, 60_000, 'How often the version number is read beside LISTEN.'),
    refreshMsMin: int(100, 0, 60_000, 'Least time between two refreshes asked for by misses.'),
  }),
  service: section({
    lookEveryMs: int(
      5_000,
      100,
      60_000,
      "How often the process looks at itself; a third of systemd's WatchdogSec= if that is less.",
    ),
    countEveryMs: int(
      10_000,
      100,
      600_000,
      'How often the messages waiting in RabbitMQ are counted, for metrics.',
    ),
    stuckAfterMs: int(
      60_000,
      1_000,
      3_600_000,
      'A part that has not moved for this long is stuck: the watchdog is no longer fed, and systemd restarts the process.',
    ),
  }),
  log: section({
    level: Type.Enum(['debug', 'info', 'warn', 'error', 'silent'], {
      default: 'info',
      description: 'Least level that is written.',
    }),
  }),
});

/** The whole configuration, checked and complete. */
export type Config = Static<typeof ConfigSchema>;
