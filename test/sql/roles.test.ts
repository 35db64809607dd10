import type { QueryResultRow } from 'pg';
import t from 'tap';
import { Database } from '../../src/postgres/database.ts';
import { databaseOptions, quietLog, testLedger } from '../support/ledger.ts';

/**
 * Who may do what, whole: every schema, table, sequence and function of ours against every role but the owner, as PostgreSQL's
 * catalogue has it, `tollgate_` left out. What stands nowhere is granted to nobody.
 */
const EXPECTED: Readonly<Record<string, string>> = {
  'function credits.cost_micro': 'jobs_owner execute',
  'function credits.cancel_batch': 'dispatcher execute',
  'function credits.give_up_batch': 'dispatcher execute',
  'function credits.ensure_partitions': 'dispatcher execute; maintenance_owner execute; migrator execute',
  'function credits.job_story': 'auditor execute; dispatcher execute; operator execute',
  'function credits.jobs_beyond_credit': '',
  'function credits.lock_accounts': 'jobs_owner execute',
  'function credits.lock_batch': 'dispatcher execute',
  'function credits.open_account': 'identity_owner execute',
  'function credits.refuse_change': '',
  'function credits.settle_batch': 'settler execute',
  'function credits.show_account': 'billing execute; operator execute',
  'function credits.sweep_overdue': 'dispatcher execute',
  'function credits.top_up': 'billing execute',
  'function identity.account_id': 'credits_owner execute',
  'function identity.add_namespace': 'operator execute',
  'function identity.add_publisher': 'operator execute',
  'function identity.create_account': 'operator execute',
  'function identity.ban_publisher': 'dispatcher execute',
  'function identity.entitle': 'operator execute',
  'function identity.lift_ban': 'dispatcher execute',
  'function identity.limit_account': 'operator execute',
  'function identity.touch_parent': '',
  'function jobs.attempts_of': 'auditor execute; dispatcher execute; operator execute',
  'function jobs.count_open_locks': 'dispatcher execute',
  'function jobs.claim_retries': 'dispatcher execute',
  'function jobs.clear_owed': 'dispatcher execute',
  'function jobs.clear_owed_attempts': 'dispatcher execute',
  'function jobs.ensure_partition': '',
  'function jobs.owed_attempts': 'dispatcher execute',
  'function jobs.place_batch': 'dispatcher execute',
  'function jobs.read_retries': 'dispatcher execute',
  'function jobs.describe': 'credits_owner execute',
  'function jobs.end_unlocked_batch': 'dispatcher execute',
  'function jobs.ensure_partitions': 'dispatcher execute; maintenance_owner execute; migrator execute',
  'function jobs.first_id': 'credits_owner execute',
  'function jobs.id_bounds': 'credits_owner execute',
  'function jobs.look_up_batch': 'credits_owner execute; dispatcher execute',
  'function jobs.milliseconds_left': 'credits_owner execute',
  'function jobs.open_attempts': 'dispatcher execute',
  'function jobs.owed_replies': 'dispatcher execute',
  'function jobs.replace_reply': 'credits_owner execute',
  'function maintenance.ensure_partitions': 'maintainer execute',
  'function maintenance.hold_lease': '',
  'function maintenance.purge_strikes': 'maintainer execute',
  'function maintenance.release_lease': 'maintainer execute',
  'function maintenance.take_lease': 'maintainer execute',
  'function network.add_model': 'operator execute',
  'function network.decayed': '',
  'function network.declare_incident': 'dispatcher execute; operator execute',
  'function network.drain_node': 'operator execute',
  'function network.explain_strikes': 'operator execute',
  'function network.may_eject': '',
  'function network.next_revision': '',
  'function network.open_pools': 'dispatcher execute',
  'function network.purge_strikes': 'maintenance_owner execute',
  'function network.refuse_repricing': '',
  'function network.register_node': 'operator execute',
  'function network.set_node_lifecycle': 'operator execute',
  'function network.set_node_place': 'operator execute',
  'function network.set_price': 'operator execute',
  'function network.stamp_revision': 'identity_owner execute',
  'function network.strike_batch': 'dispatcher execute',
  'function network.strike_score': '',
  'function network.strike_weight': '',
  'function network.touch_node': '',
  'schema credits':
    'auditor usage; billing usage; dispatcher usage; identity_owner usage; jobs_owner usage; maintenance_owner usage; operator usage; settler usage',
  'schema identity': 'auditor usage; credits_owner usage; dispatcher usage; jobs_owner usage; operator usage',
  'schema jobs': 'auditor usage; credits_owner usage; dispatcher usage; maintenance_owner usage',
  'schema maintenance': 'auditor usage; maintainer usage',
  'schema network':
    'auditor usage; credits_owner usage; dispatcher usage; identity_owner usage; jobs_owner usage; maintenance_owner usage; operator usage',
  'schema tollgate':
    'auditor usage; billing usage; dispatcher usage; maintainer usage; operator usage; settler usage',
  'sequence identity.accounts_id_seq': '',
  'sequence identity.namespaces_id_seq': '',
  'sequence identity.publishers_id_seq': '',
  'sequence network.incidents_id_seq': '',
  'sequence network.model_versions_id_seq': '',
  'sequence network.models_id_seq': '',
  'sequence network.strikes_id_seq': '',
  'table credits.accounts': 'auditor select',
  'table credits.transfers': 'auditor select',
  'table identity.accounts': 'auditor select; credits_owner select; dispatcher select; operator select',
  'table identity.entitlements': 'auditor select; credits_owner select; dispatcher select; operator select',
  'table identity.namespaces':
    'auditor select; credits_owner select; dispatcher select; jobs_owner select; operator select',
  'table identity.publishers':
    'auditor select; credits_owner select; dispatcher select; jobs_owner select; operator select',
  'table jobs.jobs': 'auditor select; credits_owner insert,select,update',
  'table maintenance.leases': 'auditor select',
  'table network.incidents': 'auditor select; operator select',
  'table network.model_versions':
    'auditor select; credits_owner select; dispatcher select; jobs_owner select; operator select',
  'table network.models':
    'auditor select; credits_owner select; dispatcher select; jobs_owner select; operator select',
  'table jobs.attempts': 'auditor select; credits_owner insert,select',
  'table network.node_models': 'auditor select; dispatcher select; operator select',
  'table network.nodes': 'auditor select; dispatcher select; operator select',
  'table network.pools': 'auditor select; dispatcher select; operator select',
  'table network.strikes': 'auditor select; operator select',
  'table network.revision': 'auditor select; dispatcher select; operator select',
  'table tollgate.migrations':
    'auditor select; billing select; dispatcher select; maintainer select; operator select; settler select',
};

const SCHEMAS = ['identity', 'network', 'jobs', 'credits', 'maintenance', 'tollgate'];

const MATRIX = `
  with objects (object, owner, acl) as (
    select 'schema ' || nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner)) from pg_namespace
     where nspname = any ($1)
    union all
    select case relkind when 'S' then 'sequence ' else 'table ' end || n.nspname || '.' || relname, relowner,
           coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))
      from pg_class join pg_namespace n on n.oid = relnamespace
     where n.nspname = any ($1) and relkind in ('r', 'p', 'v', 'm', 'S', 'f')
    union all
    select 'function ' || n.nspname || '.' || proname, proowner, coalesce(proacl, acldefault('f', proowner))
      from pg_proc join pg_namespace n on n.oid = pronamespace where n.nspname = any ($1)
  ), grants as (
    select object, case a.grantee when 0 then 'PUBLIC' else replace(a.grantee::regrole::text, 'tollgate_', '') end
                   || ' ' || string_agg(lower(a.privilege_type), ',' order by a.privilege_type) as granted
      from objects left join lateral aclexplode(acl) a on a.grantee <> owner
     group by object, a.grantee
  )
  select object, coalesce(string_agg(granted, '; ' order by granted), '') as granted
    from grants group by object order by object`;

const isPartition = (object: string) => /_\d{6}$/.test(object);

await t.test('roles', async (t) => {
  const ledger = await testLedger(t);

  await t.test('have exactly the rights of the table, partitions none', async (t) => {
    const rows = await ledger.sql<{ object: string; granted: string }>(MATRIX, [SCHEMAS]);
    const partitions = rows.filter((row) => isPartition(row.object));
    t.equal(partitions.length, 15);
    for (const { object, granted } of partitions) t.equal(granted, '', object);
    t.same(
      Object.fromEntries(
        rows.filter((row) => !isPartition(row.object)).map((row) => [row.object, row.granted]),
      ),
      EXPECTED,
    );
  });

  await t.test("leave what is pg-boss's own to the maintainer, and to the auditor for reading", async (t) => {
    const rows = await ledger.sql<{ object: string; granted: string }>(MATRIX, [['workflows']]);
    t.ok(rows.length > 10);
    const rights = {
      function: 'maintainer execute',
      schema: 'auditor usage; maintainer usage',
      table: 'auditor select; maintainer delete,insert,select,update',
    };
    for (const { object, granted } of rows)
      t.equal(granted, new Map(Object.entries(rights)).get(object.split(' ')[0] ?? ''), object);
  });

  await t.test('hold no right on a single column', async (t) => {
    const columns = await ledger.sql(
      `select from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = any ($1) and a.attacl is not null`,
      [SCHEMAS],
    );
    t.equal(columns.length, 0);
  });

  await t.test(
    'that own cannot log in, those that log in own nothing, none is more than an ordinary role',
    async (t) => {
      const roles = await ledger.sql<{ name: string; login: boolean; special: boolean; owns: boolean }>(
        `select rolname as name, rolcanlogin as login,
              rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls as special,
              exists (select from pg_class where relowner = r.oid)
              or exists (select from pg_proc where proowner = r.oid)
              or exists (select from pg_namespace where nspowner = r.oid) as owns
         from pg_roles r where rolname like 'tollgate%'`,
      );
      t.equal(roles.length, 14);
      for (const { name, login, special, owns } of roles) {
        t.notOk(special, name);
        t.equal(login, !owns, name);
        t.equal(owns, name.endsWith('_owner'), name);
      }
    },
  );

  await t.test('do not inherit each other, but the migrator the owners', async (t) => {
    const members = await ledger.sql<{ member: string; role: string }>(
      `select member::regrole::text as member, roleid::regrole::text as role from pg_auth_members
        where member::regrole::text like 'tollgate%' order by role`,
    );
    t.same(
      members.map(({ member, role }) => `${member} in ${role}`),
      ['credits', 'identity', 'jobs', 'maintenance', 'network', 'schema', 'workflows'].map(
        (name) => `tollgate_migrator in tollgate_${name}_owner`,
      ),
    );
  });

  await t.test('auditor reads only', async (t) => {
    const [row] = await ledger.sql<{ settings: string[] }>(
      `select rolconfig as settings from pg_roles where rolname = 'tollgate_auditor'`,
    );
    t.ok(row?.settings.includes('default_transaction_read_only=on'));
  });

  await t.test('owner of the ledger may not change or remove a transfer itself', async (t) => {
    const rows = await ledger.sql<{ name: string; rights: string[] }>(
      `select c.oid::regclass::text as name, array_agg(lower(a.privilege_type) order by 1) as rights
         from pg_class c cross join lateral aclexplode(c.relacl) a
        where c.oid::regclass::text like 'credits.transfers%' and c.relkind in ('r', 'p') and a.grantee = c.relowner
        group by c.oid`,
    );
    t.equal(rows.length, 6);
    for (const { name, rights } of rows)
      for (const right of ['update', 'delete', 'truncate'])
        t.notOk(rights.includes(right), `${name} ${right}`);
  });
});

await t.test("functions that lend their owner's rights fix their search_path, pg_temp last", async (t) => {
  const ledger = await testLedger(t);
  const functions = await ledger.sql<{ name: string; definer: boolean; settings: string[] | null }>(
    `select n.nspname || '.' || proname as name, prosecdef as definer, proconfig as settings
       from pg_proc p join pg_namespace n on n.oid = pronamespace where n.nspname = any ($1) order by 1`,
    [SCHEMAS],
  );
  for (const { name, settings } of functions.filter(({ definer }) => definer))
    t.ok(settings?.includes('search_path=pg_catalog, pg_temp'), name);
  t.same(
    functions.filter(({ definer }) => !definer).map(({ name }) => name),
    [
      'credits.cost_micro',
      'credits.jobs_beyond_credit',
      'jobs.describe',
      'jobs.ensure_partition',
      'jobs.first_id',
      'jobs.id_bounds',
      'jobs.milliseconds_left',
      'network.decayed',
      'network.strike_weight',
    ],
    'these run inside the others, with their rights, and no role that logs in may call them',
  );
});

await t.test('a role', async (t) => {
  const ledger = await testLedger(t);
  const asRole = async <Row extends QueryResultRow>(role: string, text: string): Promise<Row[]> => {
    await ledger.sql('begin');
    try {
      await ledger.sql(`set local role tollgate_${role}`);
      return await ledger.sql<Row>(text);
    } finally {
      await ledger.sql('rollback');
    }
  };
  const denied = { code: '42501' };
  const refusals: readonly [role: string, statement: string][] = [
    ['dispatcher', 'select from credits.accounts'],
    ['dispatcher', 'select from credits.transfers'],
    ['dispatcher', 'select from jobs.jobs'],
    ['dispatcher', 'update credits.accounts set credited_micro = 1'],
    ['dispatcher', `select credits.top_up(gen_random_uuid(), 'acme', 1)`],
    ['dispatcher', `select credits.settle_batch('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`],
    ['dispatcher', 'select credits.lock_accounts(array[1])'],
    ['dispatcher', `select identity.create_account('mine')`],
    ['settler', 'select from identity.accounts'],
    ['settler', 'select credits.sweep_overdue(1)'],
    ['billing', `select credits.job_story(gen_random_uuid())`],
    ['billing', 'update credits.accounts set credited_micro = 1'],
    ['operator', `select credits.top_up(gen_random_uuid(), 'acme', 1)`],
    ['operator', 'update network.model_versions set retired_at = now()'],
    ['operator', 'select network.next_revision()'],
    ['auditor', 'delete from credits.transfers'],
    ['auditor', `insert into credits.accounts (id, kind) values (9, 'customer')`],
    ['migrator', 'alter role tollgate_auditor superuser'],
  ];
  for (const [role, text] of refusals)
    await t.test(`${role} may not: ${text}`, (t) => t.rejects(asRole(role, text), denied));

  await t.test('auditor reads every table', async (t) => {
    for (const table of [
      'credits.accounts',
      'credits.transfers',
      'jobs.jobs',
      'identity.accounts',
      'network.nodes',
    ])
      t.ok(await asRole('auditor', `select from ${table}`), table);
  });

  await t.test('dispatcher makes partitions that are missing', async (t) => {
    const db = new Database(databaseOptions(ledger.adminUrl, 'tollgate_dispatcher', 1), quietLog);
    t.after(() => db.close());
    t.same(await db.query('ensure_partitions'), [{ made: 0 }]);
    const [last] = await ledger.sql<{ name: string }>(
      `select max(inhrelid::regclass::text) as name from pg_inherits where inhparent = 'credits.transfers'::regclass`,
    );
    await ledger.sql(`drop table ${last?.name}`);
    t.same(await db.query('ensure_partitions'), [{ made: 1 }]);
    await t.rejects(
      ledger.sql(`truncate ${last?.name}`),
      { code: '23001' },
      'and guards them like the others',
    );
    t.same(await db.query('ensure_partitions'), [{ made: 0 }]);
  });
});
