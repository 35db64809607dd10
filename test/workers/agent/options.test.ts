import t from 'tap';
import { generateNodeKey } from '../../../src/workers/agent/keys.ts';
import { faultsOf, type WorkerAgentOptions } from '../../../src/workers/agent/options.ts';

const model = { name: 'llama-3.1-8b', url: 'http://127.0.0.1:8000/v1' };
const good: WorkerAgentOptions = { node: 'node-1', privateKey: generateNodeKey(), slots: 8, models: [model] };

await t.test('good options have no fault', async (t) => {
  t.same(faultsOf(good), []);
  t.same(faultsOf({ ...good, slots: 4_096, models: [{ ...model, url: 'https://h', apiKey: 'sk-1' }] }), []);
});

await t.test('all faults are named at once', async (t) => {
  const models = [
    { ...model, name: 'A B' },
    { ...model, url: 'nowhere' },
    { ...model, url: 'ftp://h', apiKey: 'a\nb' },
  ];
  t.same(
    faultsOf({ ...good, node: 'Node 1', slots: 0, models }).map((fault) => fault.split(' ')[0]),
    ['node', 'slots', 'models', 'models[0].name', 'models[1].url', 'models[2].url', 'models[2].apiKey'],
  );
  t.equal(faultsOf({ ...good, slots: 1.5, models: [] }).length, 2);
});

await t.test('two models of one name are a fault', async (t) => {
  t.match(faultsOf({ ...good, models: [model, model] }), [/twice/]);
});
