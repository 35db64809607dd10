-- An account with its credit and its namespaces. Params: $1 name text. Returns: 1 row; an unknown name is P0002. Locks: none.
select id, name, credited_micro, captured_micro, held_micro, namespaces from credits.show_account($1::text);
