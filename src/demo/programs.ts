import type { Config } from '../config-schema.ts';
import type { ServedModel } from '../workers/agent/model-client.ts';
import type { ModelServerOptions } from './model-server.ts';

/** One node as it runs here. */
export interface FleetNode {
  readonly id: string;
  /** Its own RabbitMQ login. */
  readonly amqpUrl: string;
  /** Ed25519, PKCS #8 PEM. */
  readonly privateKey: string;
  readonly slots: number;
  readonly models: readonly ServedModel[];
  /** The worker's own log: evidence for the audit. */
  readonly logFile: string;
}

/** What the demo hands to the fleet's process. It has no database and no coordinator's rights. */
export interface FleetInput {
  readonly nodes: readonly FleetNode[];
  readonly broker: Config['broker'];
  readonly connectTimeoutMs: number;
  readonly reconnectDelayMsMax: number;
  readonly heartbeatMs: number;
}

/** The demo's own programs by file: what each is given, and what it answers when it is ready. */
export interface Programs {
  readonly 'fleet.ts': { readonly input: FleetInput; readonly answer: { readonly workers: number } };
  readonly 'model-process.ts': {
    readonly input: ModelServerOptions;
    readonly answer: { readonly url: string };
  };
}
