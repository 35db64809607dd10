import { Client } from 'pg';

/** Asks the server behind `url` one thing, as an operator would. */
export async function askPostgres<Row extends object>(url: string, sql: string): Promise<Row[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** The one number that `sql` answers, as column `count`. Throws where there is none. */
export async function countPostgres(url: string, sql: string): Promise<number> {
  const [row] = await askPostgres<{ count: string }>(url, sql);
  if (row === undefined) throw new Error(`nothing was counted by ${sql}`);
  return Number(row.count);
}
