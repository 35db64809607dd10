/** What every room may be handed; imported as types only. */

/** Structured log. Never pass a prompt, an answer, a secret or a URL with a password. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Log;
}

/** The lifecycle of every long-lived part: `stop` resolves when fully stopped; both may be called twice or out of order. */
export interface Service {
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** How a dependency stands, for `/readyz?verbose` and the metric `tollgate_dependency_up`. */
export interface Dependency {
  readonly name: 'postgres' | 'redis' | 'rabbitmq' | 'mongodb';
  readonly isUp: boolean;
  readonly detail: string;
}
