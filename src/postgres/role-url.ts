/** `url` with another user name and the same password. */
export function loginAs(url: string, role: string): string {
  const own = new URL(url);
  own.username = role;
  return own.href;
}

/**
 * `url` of a superuser who gives up his rights for those of `role`, and reads only. For operators' commands: the settings that a role
 * gets at its own login don't come along.
 */
export function actingAs(url: string, role: string): string {
  const own = new URL(url);
  own.searchParams.set('options', `-c role=${role} -c default_transaction_read_only=on`);
  return own.href;
}
