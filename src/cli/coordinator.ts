import type { Config } from '../config-schema.ts';
import { TollgateError } from '../errors.ts';

/** Longest wait for a coordinator's answer, in milliseconds. */
const ANSWER_MS_MAX = 5_000;

/** Where a coordinator answers: `--http`, else the configured address. */
export function coordinatorUrl(option: string | undefined, { http }: Config): string {
  return (option ?? `http://${http.host.includes(':') ? `[${http.host}]` : http.host}:${http.port}`).replace(
    /\/+$/,
    '',
  );
}

/** A question in the form that `/v1/explain` and `/v1/jobs/<id>/explain` take; what is undefined is left out. */
export function explainQuery(fields: Readonly<Record<string, string | number | undefined>>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) query.set(name, String(value));
  return query.size === 0 ? '' : `?${query.toString()}`;
}

/**
 * Asks a coordinator at `url` for a JSON object with a `text` for people. Throws TG_STORE_UNAVAILABLE when none answers there, and
 * TG_STORE_REJECTED with its own words when it refuses the question.
 */
export async function askCoordinator(
  url: string,
  path: string,
  answerMsMax = ANSWER_MS_MAX,
): Promise<{ readonly text: string }> {
  let answer: Response;
  let body: unknown;
  try {
    answer = await fetch(`${url}${path}`, { signal: AbortSignal.timeout(answerMsMax) });
    body = await answer.json();
  } catch (cause) {
    throw new TollgateError('TG_STORE_UNAVAILABLE', `no coordinator answers at ${url}; say --http URL`, {
      cause,
    });
  }
  if (answer.ok && isTold(body)) return body;
  const why =
    typeof body === 'object' && body !== null && 'message' in body ? String(body.message) : answer.status;
  throw new TollgateError(
    answer.status === 503 ? 'TG_STORE_UNAVAILABLE' : 'TG_STORE_REJECTED',
    `the coordinator at ${url} says: ${why}`,
  );
}

function isTold(body: unknown): body is { readonly text: string } {
  return typeof body === 'object' && body !== null && 'text' in body && typeof body.text === 'string';
}
