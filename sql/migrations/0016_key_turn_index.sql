-- The newest turn of a key is found by a number. With (kind, key, seq) each look compared the texts of every older turn on
-- the page, and so cost more the more jobs of the key had run since the last prune.

alter table key_turn drop constraint key_turn_pkey;
create unique index key_turn_hash on key_turn (hashtextextended(key, hashtext(kind)), seq, kind, key);
