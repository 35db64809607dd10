/**
 * Lets a command run to its end, with its own exit status, when whoever reads its standard output has seen enough (`| head`). Without
 * it Node ends the process with a stack of calls. Idempotent in effect; other errors of standard output still end the process.
 */
export function bearClosedOutput(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}
