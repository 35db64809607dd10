import { serveDemo } from './child.ts';
import { ModelServer } from './model-server.ts';

/** The demo's model server as a process of its own: takes its options from the demo, answers with its URL. */
await serveDemo<'model-process.ts'>(async (options) => {
  const server = new ModelServer(options);
  await server.start();
  return { answer: { url: server.url }, stop: () => server.stop() };
});
