import { type Db, type Document, MongoClient, MongoServerError } from 'mongodb';
import { StoreError } from '../errors.ts';
import type { Log } from '../ops/types.ts';
import { clientOptions, type MongoConnection, type MongoServers } from './mongo.ts';

/** How long one index may take on collections that hold documents already. */
const BUILD_MS_MAX = 600_000;

const NAMESPACE_EXISTS = 48;
const INDEX_NOT_FOUND = 27;
/** Of requests; not made any more. */
const FORMER_INDEX = 'account_at';

/** The view that joins a job's documents into the one that its reader sees. */
export const TRACES_VIEW = 'traces';

/** All documents of section `from` that belong to the request before it: same namespace and same job, both by index. */
function joined(from: 'routes' | 'attempts' | 'events', order: Document): Document {
  return {
    $lookup: {
      from,
      let: { job: '$_id', namespace: '$namespace' },
      pipeline: [
        {
          $match: {
            $expr: { $and: [{ $eq: ['$namespace', '$$namespace'] }, { $eq: ['$job', '$$job'] }] },
          },
        },
        { $sort: order },
      ],
      as: from,
    },
  };
}

/** What makes a trace of a request. `_id` breaks the tie of two events of one millisecond. */
const JOIN_STAGES: readonly Document[] = [
  joined('routes', { 'routing.attempt': 1 }),
  joined('attempts', { attempt: 1 }),
  joined('events', { at: 1, _id: 1 }),
];

/**
 * Makes the indexes and the view; what is there already stays. Run by `migrate`, safe when two processes run it at once.
 * Throws StoreError when MongoDB is away.
 */
export async function ensureCollections(servers: MongoServers): Promise<void> {
  const client = new MongoClient(servers.mongoUrl, {
    ...clientOptions(servers, servers.connectTimeoutMs),
    socketTimeoutMS: BUILD_MS_MAX,
  });
  try {
    const db = client.db();
    await db.collection('requests').createIndex({ namespace: 1, at: -1 }, { name: 'namespace_at' });
    await dropFormerIndex(db);
    for (const section of ['routes', 'attempts'])
      await db.collection(section).createIndex({ namespace: 1, job: 1 }, { name: 'namespace_job' });
    await db.collection('events').createIndexes([
      { key: { namespace: 1, job: 1 }, name: 'namespace_job' },
      // A message that was refused early has no namespace; its job's id is all an operator has.
      { key: { job: 1 }, name: 'job', sparse: true },
    ]);
    await ensureView(db);
  } catch (error) {
    throw new StoreError('mongodb', 'collections could not be made', { cause: error });
  } finally {
    await client.close();
  }
}

/**
 * Makes the collections as soon as MongoDB is up, once: a daemon may start while it is away, and documents written before
 * their indexes exist are found slowly. Failures are logged and tried again at the next change to up.
 */
export function ensureCollectionsWhenUp(mongo: MongoConnection, servers: MongoServers, log: Log): void {
  const unsubscribe = mongo.onChange((isUp) => {
    if (isUp) ensure();
  });
  const ensure = () => {
    ensureCollections(servers).then(unsubscribe, (error: unknown) => {
      log.error({ error }, 'trace collections could not be made');
    });
  };
  if (mongo.isUp) ensure();
}

/** An account's requests are found by its namespaces now; whoever has the index still pays for it with every job. */
async function dropFormerIndex(db: Db): Promise<void> {
  const requests = db.collection('requests');
  if (!(await requests.indexExists(FORMER_INDEX))) return;
  try {
    await requests.dropIndex(FORMER_INDEX);
  } catch (error) {
    // Another process was faster.
    if (!(error instanceof MongoServerError && error.code === INDEX_NOT_FOUND)) throw error;
  }
}

async function ensureView(db: Db): Promise<void> {
  const pipeline = [...JOIN_STAGES];
  try {
    await db.createCollection(TRACES_VIEW, { viewOn: 'requests', pipeline });
  } catch (error) {
    if (!(error instanceof MongoServerError && error.code === NAMESPACE_EXISTS)) throw error;
    await db.command({ collMod: TRACES_VIEW, viewOn: 'requests', pipeline });
  }
}
