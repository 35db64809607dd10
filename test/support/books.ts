import { type Document, MongoClient, UUID } from 'mongodb';
import { Pool } from 'pg';
import { isUuidV7 } from '../../src/ids.ts';
import type { TestServers } from './servers.ts';
import { until } from './until.ts';

/** One account's counters beside what its transfers add up to, in micro-credits as text. */
export interface AccountFigures {
  readonly id: number;
  readonly counted: string;
  readonly computed: string;
}

/** A row of `jobs.jobs`, as far as tests look at it. */
export interface JobRow {
  readonly id: string;
  readonly state: string;
  readonly code: string | null;
  readonly attempt: number;
  readonly node: string | null;
  readonly reply_owed: boolean;
  readonly locked_micro: string;
  readonly charged_micro: string;
}

/** What the stores say, read from outside with drivers of the tests' own and as their administrator. */
export class Books {
  readonly #servers: TestServers;
  /** One connection, so that a transaction stays on it; made again when the server comes back. */
  readonly #postgres: Pool;
  readonly #mongo: MongoClient;

  constructor(servers: TestServers) {
    this.#servers = servers;
    this.#postgres = new Pool({ connectionString: servers.postgresAdminUrl, max: 1, idleTimeoutMillis: 0 });
    this.#postgres.on('error', () => undefined);
    this.#mongo = new MongoClient(servers.mongoUrl);
  }

  /** Holds the rows of all accounts on a connection of its own: locks and settlements begin, and do not commit before `letGo`. */
  async holdAccounts(): Promise<{ readonly letGo: () => Promise<void> }> {
    const other = new Books(this.#servers);
    await other.sql('begin');
    await other.sql("select from credits.accounts where kind = 'customer' for update");
    return {
      letGo: async () => {
        await other.sql('commit');
        await other.close();
      },
    };
  }

  /** Waits until somebody stands before a row that is held. */
  async lockIsAwaited(): Promise<void> {
    const waiting = `select from pg_stat_activity
                      where datname = current_database() and wait_event_type = 'Lock'`;
    await until(async () => (await this.sql(waiting)).length > 0, 'somebody to wait for a row');
  }

  async close(): Promise<void> {
    await this.#postgres.end();
    await this.#mongo.close();
  }

  /** A superuser's statement. */
  async sql<Row extends object>(text: string, params: readonly unknown[] = []): Promise<Row[]> {
    return (await this.#postgres.query<Row>(text, [...params])).rows;
  }

  /** Every counter and the number of transfers: equal texts mean that no credit moved. */
  async credits(): Promise<string> {
    const accounts = await this.sql('select * from credits.accounts order by id');
    const transfers = await this.sql('select count(*), sum(amount_micro) from credits.transfers');
    return JSON.stringify([accounts, transfers]);
  }

  /** Counters against a recomputation from the transfers alone. */
  accounts(): Promise<AccountFigures[]> {
    return this.sql(`
      select a.id, concat_ws(' ', a.credited_micro, a.captured_micro, a.held_micro) as counted,
             concat_ws(' ',
               (select coalesce(sum(t.amount_micro), 0) from credits.transfers t
                 where t.kind = 'top_up' and t.credit_account_id = a.id),
               (select coalesce(sum(t.amount_micro), 0) from credits.transfers t
                 where t.kind = 'capture' and t.debit_account_id = a.id),
               (select coalesce(sum(t.amount_micro), 0) from credits.transfers t
                 where t.kind = 'lock' and t.debit_account_id = a.id
                   and not exists (select from credits.transfers r where r.id = t.id and r.phase = 1))) as computed
        from credits.accounts a where a.kind = 'customer' order by a.id`);
  }

  /** The row of a job, or undefined. */
  async job(id: string): Promise<JobRow | undefined> {
    const [row] = await this.sql<JobRow>('select * from jobs.jobs where id = $1', [id]);
    return row;
  }

  /** Kinds of the transfers of a job, in the order of their phase. */
  async transfersOf(id: string): Promise<string[]> {
    const rows = await this.sql<{ kind: string }>(
      'select kind::text from credits.transfers where id = $1 order by phase',
      [id],
    );
    return rows.map(({ kind }) => kind);
  }

  /** Jobs by state. */
  async states(): Promise<Record<string, number>> {
    const rows = await this.sql<{ state: string; jobs: number }>(
      'select state::text, count(*)::integer as jobs from jobs.jobs group by state',
    );
    return Object.fromEntries(rows.map(({ state, jobs }) => [state, jobs]));
  }

  /** Terminal jobs whose lock stands unresolved, and locks without a job. */
  async unresolved(): Promise<string[]> {
    const rows = await this.sql<{ id: string }>(`
      select t.id from credits.transfers t left join jobs.jobs j on j.id = t.id
       where t.kind = 'lock' and (j.id is null or j.state <> 'locked'
         and not exists (select from credits.transfers r where r.id = t.id and r.phase = 1))`);
    return rows.map(({ id }) => id);
  }

  /** Events of MongoDB that match. */
  events(filter: Document): Promise<Document[]> {
    return this.#mongo.db().collection('events').find(filter).toArray();
  }

  /** What MongoDB keeps of one section about `job`. */
  async traces(section: 'requests' | 'routes' | 'attempts' | 'events', job: string): Promise<Document[]> {
    const key = isUuidV7(job) ? new UUID(job) : job;
    const field = section === 'requests' ? '_id' : 'job';
    return this.#mongo
      .db()
      .collection(section)
      .find({ [field]: key })
      .sort({ _id: 1 })
      .toArray();
  }

  /** Ids of all jobs that have a document in `section`. */
  async tracedJobs(section: 'requests' | 'attempts'): Promise<Set<string>> {
    const field = section === 'requests' ? '_id' : 'job';
    const keys = await this.#mongo.db().collection(section).distinct(field);
    return new Set(keys.map(String));
  }

  /** Makes MongoDB refuse every document that comes to `section` from now on. */
  async refuseDocuments(section: 'requests' | 'attempts' | 'events'): Promise<void> {
    const validator = { never: { $exists: true } };
    await this.#mongo.db().command({ collMod: section, validator, validationAction: 'error' });
  }

  /** Every document of every collection, as text. */
  async traceText(): Promise<string> {
    const parts: string[] = [];
    for (const section of ['requests', 'attempts', 'events'])
      for await (const document of this.#mongo.db().collection(section).find())
        parts.push(
          JSON.stringify(document, (_, value: unknown) =>
            typeof value === 'bigint' ? String(value) : value,
          ),
          Buffer.from(document['body']?.buffer ?? []).toString(),
        );
    return parts.join('\n');
  }
}

/** The value of one series of a `/metrics` page, 0 if it is not there: `series('x_total', { code: 'A' })`. */
export async function metric(
  httpUrl: string,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<number> {
  const response = await fetch(new URL('/metrics', httpUrl));
  const text = await response.text();
  const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
  const line = text
    .split('\n')
    .find(
      (one) =>
        (one.startsWith(`${name} `) || one.startsWith(`${name}{`)) &&
        wanted.every((label) => one.includes(label)),
    );
  return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(' ') + 1));
}
