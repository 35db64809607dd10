import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

/** The part of a tap test that is used. */
interface Teardown {
  after(cleanUp: () => unknown): void;
}

/** A real HTTP server that answers as a test wants; `body` is the parsed request. */
export type Script = (
  response: ServerResponse,
  body: Record<string, unknown>,
  request: IncomingMessage,
) => void;

/** Starts a server with `script` on a free loopback port, closed with `t`. Returns its base URL and the requests so far. */
export async function scriptedModel(
  t: Teardown,
  script: Script,
): Promise<{ url: string; requests: Record<string, unknown>[] }> {
  const requests: Record<string, unknown>[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body: Record<string, unknown> = JSON.parse(Buffer.concat(chunks).toString());
      requests.push(body);
      script(response, body, request);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('the server has no port');
  return { url: `http://127.0.0.1:${address.port}/v1`, requests };
}

/** Begins an event stream. */
export function beginStream(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
}

/** One event with a token. */
export function token(content: string): string {
  return `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`;
}

/** The event that says why the answer ended. */
export function finish(reason: string): string {
  return `data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: reason }] })}\n\n`;
}

/** The last events: usage, and the end. */
export function usage(inputTokens: number, outputTokens: number): string {
  const counted = { prompt_tokens: inputTokens, completion_tokens: outputTokens };
  return `data: ${JSON.stringify({ choices: [], usage: counted })}\n\n`;
}

export const DONE = 'data: [DONE]\n\n';
