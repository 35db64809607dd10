-- Lets a publisher spend for an account. Params: $1 publisher text, $2 account text. Returns: nothing. Locks: none. Idempotent;
-- an unknown name is P0002.
select from identity.entitle($1::text, $2::text);
