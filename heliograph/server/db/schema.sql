-- The schema, version 1. Every column says what it holds. Times are milliseconds since 1970 UTC (…_at_ms), ids are
-- the texts of wire/ids.py, and ids are never given out twice. STRICT is SQLite's word; the rest is common SQL.

-- ===================================================================================================== core
-- Owner: server/app, log, accounts, devices, auth, sessions

CREATE TABLE server (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1), -- there is one row
    schema_version INTEGER NOT NULL,                -- the version of this schema
    domain TEXT NOT NULL,                           -- the server's domain, fixed at the first start
    incarnation TEXT NOT NULL,                      -- changes with a restore from a backup: cursors name it
    created_at_ms INTEGER NOT NULL                  -- first start
) STRICT;

CREATE TABLE topics (
    topic TEXT NOT NULL PRIMARY KEY, -- a room, a channel or a device's mailbox
    head INTEGER NOT NULL,           -- seq of the newest entry; 0 before the first
    floor INTEGER NOT NULL,          -- entries up to this seq have been deleted; 0 at first
    created_at_ms INTEGER NOT NULL   -- when the topic began
) STRICT;

CREATE TABLE entries (
    topic TEXT NOT NULL,   -- topics.topic
    seq INTEGER NOT NULL,  -- 1, 2, 3 ... without a hole
    body BLOB NOT NULL,    -- one event of wire/events.py as MessagePack
    digest BLOB NOT NULL,  -- first 16 bytes of the body's SHA-256: finds a flipped bit
    PRIMARY KEY (topic, seq)
) STRICT;

CREATE TABLE handles (
    handle TEXT NOT NULL PRIMARY KEY, -- one namespace for accounts and channels
    holder TEXT NOT NULL,             -- the account or channel that it names; stays when the holder is gone
    taken_at_ms INTEGER NOT NULL      -- when it was taken
) STRICT;

CREATE TABLE accounts (
    account TEXT NOT NULL PRIMARY KEY, -- hash of the genesis state
    handle TEXT NOT NULL,              -- its handle
    role TEXT NOT NULL,                -- member, reviewer, administrator
    state_seq INTEGER NOT NULL,        -- seq of the newest state
    invited_by TEXT,                   -- who made the invitation; NULL for open registration or the server itself
    created_at_ms INTEGER NOT NULL     -- registration
) STRICT;

CREATE TABLE account_states (
    account TEXT NOT NULL,           -- accounts.account
    seq INTEGER NOT NULL,            -- 0, 1, 2 ...
    state BLOB NOT NULL,             -- SignedAccountState
    accepted_at_ms INTEGER NOT NULL, -- when the server took it
    PRIMARY KEY (account, seq)
) STRICT;

CREATE TABLE devices (
    device TEXT NOT NULL PRIMARY KEY, -- never given out twice
    account TEXT NOT NULL,            -- accounts.account
    device_key BLOB NOT NULL,         -- Ed25519 public key, 32 bytes
    role INTEGER NOT NULL,            -- 1 full, 2 limited
    added_at_ms INTEGER NOT NULL,     -- when the state that brought it in was taken
    removed_at_ms INTEGER             -- when a state without it was taken; NULL while it stands
) STRICT;
CREATE INDEX devices_by_account ON devices (account);

CREATE TABLE invitations (
    token_hash BLOB NOT NULL PRIMARY KEY, -- SHA-256 of the invitation
    role TEXT NOT NULL,                   -- the role that it gives
    made_by TEXT,                         -- accounts.account; NULL for the server's first one
    expires_at_ms INTEGER NOT NULL,       -- end of its life
    used_by TEXT                          -- the account that it founded; NULL while unused
) STRICT;

CREATE TABLE sessions (
    token_hash BLOB NOT NULL PRIMARY KEY, -- SHA-256 of the bearer token
    account TEXT NOT NULL,                -- accounts.account
    device TEXT NOT NULL,                 -- devices.device
    created_at_ms INTEGER NOT NULL,       -- login
    seen_at_ms INTEGER NOT NULL,          -- last use, to the minute
    expires_at_ms INTEGER NOT NULL,       -- absolute end
    ended_at_ms INTEGER,                  -- logout or revocation; NULL while it is open
    challenge BLOB NOT NULL UNIQUE        -- the challenge that was signed: none opens two sessions
) STRICT;
CREATE INDEX sessions_by_device ON sessions (device);

CREATE TABLE acknowledgements (
    topic TEXT NOT NULL,  -- topics.topic
    device TEXT NOT NULL, -- devices.device
    seq INTEGER NOT NULL, -- the device has kept everything up to here
    PRIMARY KEY (topic, device)
) STRICT;

-- ==================================================================================================== rooms
-- Owner: server/key_packages, consents, rooms, commits, submissions, messages, retention

CREATE TABLE key_packages (
    reference BLOB NOT NULL PRIMARY KEY, -- KeyPackageRef (RFC 9420 §5.2)
    account TEXT NOT NULL,               -- accounts.account
    device TEXT NOT NULL,                -- devices.device: who offers it
    suite INTEGER NOT NULL,              -- cipher suite
    last_resort INTEGER NOT NULL CHECK (last_resort IN (0, 1)), -- 1: handed out when the others are gone, and kept
    key_package BLOB NOT NULL,           -- an MLSMessage
    expires_at_ms INTEGER NOT NULL       -- end of its lifetime
) STRICT;
CREATE INDEX key_packages_by_device ON key_packages (device, suite, last_resort, expires_at_ms);

-- What was handed out, and not to whom. A row stays as long as its package could be published again or added to a room.
CREATE TABLE claims (
    reference BLOB NOT NULL PRIMARY KEY, -- KeyPackageRef
    account TEXT NOT NULL,               -- whose package it was
    device TEXT NOT NULL,                -- devices.device
    last_resort INTEGER NOT NULL CHECK (last_resort IN (0, 1)), -- 1: may be added more than once
    used INTEGER NOT NULL CHECK (used IN (0, 1)), -- 1: a commit has added it
    claimed_at_ms INTEGER NOT NULL,      -- when it was first handed out
    expires_at_ms INTEGER NOT NULL       -- end of the package's lifetime
) STRICT;
CREATE INDEX claims_by_account ON claims (account, claimed_at_ms);

CREATE TABLE key_package_notices (
    device TEXT NOT NULL,     -- devices.device: was told that its pool is low, and has published nothing since
    suite INTEGER NOT NULL,   -- cipher suite of the pool
    told_at_ms INTEGER NOT NULL, -- when
    PRIMARY KEY (device, suite)
) STRICT;

CREATE TABLE consents (
    pair BLOB NOT NULL PRIMARY KEY -- HMAC of both accounts under a key that is not in the database: no list of contacts
) STRICT;

CREATE TABLE contact_tokens (
    token_hash BLOB NOT NULL PRIMARY KEY, -- SHA-256 of the token
    account TEXT NOT NULL,                -- whose key packages it opens
    expires_at_ms INTEGER NOT NULL        -- end of its life
) STRICT;
CREATE INDEX contact_tokens_by_account ON contact_tokens (account);

CREATE TABLE rooms (
    room TEXT NOT NULL PRIMARY KEY,  -- its bytes are the MLS group_id
    kind TEXT NOT NULL CHECK (kind IN ('direct', 'group')), -- direct: two people, one room a pair
    pair TEXT UNIQUE,                -- direct: both accounts in order; NULL for a group, or when it lost the pair's place
    epoch INTEGER NOT NULL,          -- of the MLS group
    oldest_epoch INTEGER NOT NULL,   -- messages of earlier epochs are refused: this epoch, or the one before it
    revision INTEGER NOT NULL,       -- grows with each commit and proposal
    tree_hash BLOB NOT NULL,         -- of the present epoch: room_trees.tree_hash
    creation_digest BLOB NOT NULL,   -- SHA-256 over the request that made it: the same again finds it
    swept_seq INTEGER NOT NULL,      -- messages up to this seq have been taken out by age
    created_at_ms INTEGER NOT NULL   -- when it was made
) STRICT;

CREATE TABLE room_groups (
    room TEXT NOT NULL PRIMARY KEY, -- rooms.room
    public_group BLOB NOT NULL,     -- the group as seen without its secrets (mls/public_group.py), with its proposals
    group_info BLOB NOT NULL        -- the present epoch's GroupInfo, an MLSMessage
) STRICT;

CREATE TABLE room_trees (
    room TEXT NOT NULL,          -- rooms.room
    tree_hash BLOB NOT NULL,     -- of the ratchet tree
    tree BLOB NOT NULL,          -- the ratchet tree
    superseded_at_ms INTEGER,    -- when a commit replaced it; NULL for the present one
    PRIMARY KEY (room, tree_hash)
) STRICT;
CREATE INDEX room_trees_superseded ON room_trees (superseded_at_ms) WHERE superseded_at_ms IS NOT NULL;

CREATE TABLE room_participants (
    room TEXT NOT NULL,     -- rooms.room
    account TEXT NOT NULL,  -- accounts.account
    role INTEGER NOT NULL,  -- 1 banned, 2 member, 3 admin, 4 owner (wire/room_policy.py)
    PRIMARY KEY (room, account)
) STRICT;
CREATE INDEX room_participants_by_account ON room_participants (account);

CREATE TABLE room_devices (
    room TEXT NOT NULL,          -- rooms.room
    device TEXT NOT NULL,        -- devices.device: has, or last had, a leaf in the group
    account TEXT NOT NULL,       -- accounts.account
    joined_seq INTEGER NOT NULL, -- the entry that added it: it reads what comes after
    left_seq INTEGER,            -- the entry that removed it, or by which it leaves: the last it reads; NULL while in
    PRIMARY KEY (room, device)
) STRICT;
CREATE INDEX room_devices_by_device ON room_devices (device);
CREATE INDEX room_devices_by_account ON room_devices (account);

-- One row for each entry of a room, as long as the room lives, so that a retry finds its first answer. It does not
-- tell who sent what: the hash is keyed by a key that is not in the database.
CREATE TABLE submissions (
    room TEXT NOT NULL,              -- rooms.room
    key_hash BLOB NOT NULL,          -- HMAC of room, device and idempotency key, 16 bytes
    seq INTEGER NOT NULL,            -- the entry that it became
    digest BLOB NOT NULL,            -- of what was submitted, 16 bytes
    accepted_at_ms INTEGER NOT NULL, -- when it was taken
    PRIMARY KEY (room, key_hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE welcomes (
    device TEXT NOT NULL,           -- devices.device: in whose mailbox it lies
    seq INTEGER NOT NULL,           -- entries.seq in that mailbox
    room TEXT NOT NULL,             -- the room that it opens
    tree_hash BLOB NOT NULL,        -- the tree that goes with it, kept as long as this row
    expires_at_ms INTEGER NOT NULL, -- after this nobody can use it
    PRIMARY KEY (device, seq)
) STRICT;
CREATE INDEX welcomes_by_tree ON welcomes (room, tree_hash);

CREATE TABLE topic_marks (
    topic TEXT NOT NULL,    -- topics.topic: a room or a mailbox
    at_ms INTEGER NOT NULL, -- at this time
    head INTEGER NOT NULL,  -- this was its newest entry: what is not newer is at least so old
    PRIMARY KEY (topic, at_ms)
) STRICT;

-- ===================================================================================== channels, moderation
-- Owner: server/restrictions, channels, server/moderation

CREATE TABLE channels (
    channel TEXT NOT NULL PRIMARY KEY,    -- its id, chosen by the client that opened it
    handle TEXT NOT NULL UNIQUE,          -- handles.handle
    title TEXT NOT NULL,                  -- plain text
    description TEXT NOT NULL,            -- plain text, may be empty
    languages TEXT NOT NULL,              -- language tags as a JSON list
    founder TEXT NOT NULL,                -- the account that opened it
    followers INTEGER NOT NULL DEFAULT 0, -- how many rows of channel_followers name it
    created_at_ms INTEGER NOT NULL        -- when it was opened
) STRICT;

CREATE TABLE channel_roles (
    channel TEXT NOT NULL REFERENCES channels (channel), -- the channel
    account TEXT NOT NULL,                               -- who has the role
    role TEXT NOT NULL CHECK (role IN ('owner', 'editor', 'moderator')), -- what it lets the account do
    given_at_ms INTEGER NOT NULL,                        -- since when
    PRIMARY KEY (channel, account)
) STRICT;
CREATE INDEX channel_roles_by_account ON channel_roles (account);

CREATE TABLE channel_followers (
    account TEXT NOT NULL,                               -- who follows; nobody else reads this row
    channel TEXT NOT NULL REFERENCES channels (channel), -- what is followed
    since_ms INTEGER NOT NULL,                           -- when it began, milliseconds since 1970 UTC
    PRIMARY KEY (account, channel)
) STRICT;

CREATE TABLE posts (
    channel TEXT NOT NULL REFERENCES channels (channel), -- where it stands
    post INTEGER NOT NULL,                               -- its id: the seq of its first entry in the channel's topic
    version INTEGER NOT NULL,                            -- seq of the entry that holds its newest version
    author TEXT NOT NULL,                                -- the account whose device signed the first version
    accepted_at_ms INTEGER NOT NULL,                     -- when the first version was taken
    tombstone_by TEXT CHECK (tombstone_by IN ('author', 'channel', 'moderation')), -- who removed it; NULL while it stands
    tombstone_at_ms INTEGER,                             -- when it was removed; NULL while it stands
    decision TEXT REFERENCES decisions (decision),       -- by which decision; NULL unless moderation removed it
    CHECK ((tombstone_by IS NULL) = (tombstone_at_ms IS NULL)),
    CHECK (tombstone_by IS NULL OR (tombstone_by = 'moderation') = (decision IS NOT NULL)),
    PRIMARY KEY (channel, post)
) STRICT;

CREATE TABLE post_versions (
    channel TEXT NOT NULL,  -- posts.channel
    version INTEGER NOT NULL, -- seq of the entry that holds this version
    post INTEGER NOT NULL,  -- posts.post
    PRIMARY KEY (channel, version),
    FOREIGN KEY (channel, post) REFERENCES posts (channel, post)
) STRICT;
CREATE INDEX post_versions_by_post ON post_versions (channel, post);

CREATE TABLE channel_requests (
    channel TEXT NOT NULL,           -- where something was published
    account TEXT NOT NULL,           -- by whom
    key BLOB NOT NULL,               -- the idempotency key in the signed bytes, 16 bytes
    digest BLOB NOT NULL,            -- SHA-256 of the operation's label and the signed bytes
    seq INTEGER NOT NULL,            -- the entry that answered it
    accepted_at_ms INTEGER NOT NULL, -- when it was taken
    PRIMARY KEY (channel, account, key)
) STRICT;

CREATE TABLE cases (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- the order in which cases were opened
    case_id TEXT NOT NULL UNIQUE,                      -- its id
    subject_kind TEXT NOT NULL CHECK (subject_kind IN ('post', 'channel', 'account', 'room')), -- what it is about
    subject_ref TEXT NOT NULL,                         -- which one: channel, channel/post, account or room
    state TEXT NOT NULL CHECK (state IN ('new', 'leased', 'decided', 'closed')), -- where it stands
    category TEXT NOT NULL,                            -- DSA category of the first report; empty where it is sealed
    snapshot BLOB NOT NULL,                            -- the subject as it was at the first report, MessagePack
    opened_at_ms INTEGER NOT NULL                      -- when the first report came
) STRICT;
CREATE UNIQUE INDEX one_open_case_of_a_subject ON cases (subject_kind, subject_ref) WHERE state IN ('new', 'leased');

CREATE TABLE reports (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,      -- the order in which reports came
    report TEXT NOT NULL UNIQUE,                            -- its id
    case_id TEXT NOT NULL REFERENCES cases (case_id),       -- the case that it is part of
    source TEXT NOT NULL CHECK (source IN ('app', 'form')), -- which door it came in by
    category TEXT NOT NULL,                                 -- DSA category; empty where it is sealed
    keyword TEXT,                                           -- DSA keyword; NULL for none
    explanation TEXT NOT NULL,                              -- why it is thought illegal or against the terms
    language TEXT NOT NULL,                                 -- language tag of the explanation
    good_faith INTEGER NOT NULL CHECK (good_faith = 1),     -- the statement of DSA Art. 16(2)(d)
    reporter TEXT,                                          -- accounts.account; NULL without an account
    contact BLOB,                                           -- name and e-mail under the contact key; NULL if not given
    sealed BLOB,                                            -- a private report, sealed to the desk; NULL for public ones
    content_digest BLOB NOT NULL,                           -- SHA-256 of what it says: the same report twice is one
    repeats INTEGER NOT NULL DEFAULT 0,                     -- how often its sender sent it again
    receipt_hash BLOB NOT NULL,                             -- SHA-256 of the receipt's secret
    received_at_ms INTEGER NOT NULL,                        -- when it came
    answered_at_ms INTEGER,                                 -- when its case was decided; NULL before
    outcome TEXT NOT NULL DEFAULT '',                       -- what its sender is told; empty before
    decision TEXT REFERENCES decisions (decision)           -- what answered it; NULL before
) STRICT;
CREATE INDEX reports_by_case ON reports (case_id, reporter);

CREATE TABLE desk_keys (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- the newest is in force
    key BLOB NOT NULL,                                 -- X25519 public key, 32 bytes
    published_by TEXT NOT NULL,                        -- the reviewer's account
    published_at_ms INTEGER NOT NULL                   -- when
) STRICT;

CREATE TABLE evidence (
    case_id TEXT NOT NULL REFERENCES cases (case_id), -- the case that it belongs to
    sha256 BLOB NOT NULL,                             -- of the disclosed item, which itself is not kept here
    verdict TEXT NOT NULL CHECK (verdict IN ('proven', 'unproven')), -- a forged item is refused
    kid BLOB NOT NULL,                                -- which hub key stamped it
    room_seq INTEGER NOT NULL,                        -- its number in the room
    sender TEXT NOT NULL,                             -- MIMI URI of the account that sent it
    verifier TEXT NOT NULL,                           -- name and version of what verified it
    attached_by TEXT NOT NULL,                        -- the reviewer's account
    attached_at_ms INTEGER NOT NULL,                  -- when
    PRIMARY KEY (case_id, sha256)
) STRICT;

CREATE TABLE audit_head (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1), -- there is one row
    seq INTEGER NOT NULL,                           -- seq of the newest audit event
    hash BLOB NOT NULL                              -- its hash
) STRICT;

CREATE TABLE audit_events (
    seq INTEGER NOT NULL PRIMARY KEY, -- 1, 2, 3 ... without a hole
    at_ms INTEGER NOT NULL,           -- when
    actor TEXT NOT NULL,              -- the account that acted; empty for someone without one
    act TEXT NOT NULL,                -- what was done
    object TEXT NOT NULL,             -- to which case, report, decision or key
    detail TEXT NOT NULL,             -- in few words; no personal data
    prev_hash BLOB NOT NULL,          -- hash of the event before; 32 zero bytes for the first
    hash BLOB NOT NULL UNIQUE         -- SHA-256 over prev_hash and everything above
) STRICT;
CREATE INDEX audit_events_by_object ON audit_events (object, seq);

CREATE TABLE decision_leaves (
    leaf_index INTEGER NOT NULL PRIMARY KEY, -- 0, 1, 2 ...: its place in the log of decisions
    entry BLOB NOT NULL                      -- the public row, canonical JSON (tlog/decision_leaf.py)
) STRICT;

CREATE TABLE decision_nodes (
    level INTEGER NOT NULL,      -- 0 for leaves
    node_index INTEGER NOT NULL, -- covers the leaves from node_index * 2^level on
    hash BLOB NOT NULL,          -- 32 bytes; a complete node never changes
    PRIMARY KEY (level, node_index)
) STRICT;

CREATE TABLE checkpoints (
    size INTEGER NOT NULL PRIMARY KEY, -- how many leaves it covers
    note TEXT NOT NULL,                -- the signed note (C2SP tlog-checkpoint)
    signed_at_ms INTEGER NOT NULL      -- when
) STRICT;

CREATE TABLE statements_of_reasons (
    decision TEXT NOT NULL PRIMARY KEY, -- the decision that it gives the reasons of
    facts TEXT NOT NULL,                -- for the affected; no personal data of others
    redress TEXT NOT NULL,              -- how to object
    language TEXT NOT NULL,             -- language tag of reason and facts
    nonce BLOB NOT NULL                 -- opens the leaf's commitment; 32 bytes
) STRICT;

-- A decision cannot exist without its statement of reasons, its leaf and its audit event: they are written first.
CREATE TABLE decisions (
    decision TEXT NOT NULL PRIMARY KEY REFERENCES statements_of_reasons (decision), -- its id
    case_id TEXT NOT NULL REFERENCES cases (case_id),                               -- the case that it decides
    decider TEXT NOT NULL,               -- the reviewer's account
    subject_kind TEXT NOT NULL,          -- what it is about
    subject_ref TEXT NOT NULL,           -- which one
    ground TEXT NOT NULL CHECK (ground IN ('illegal-content', 'incompatible-content')), -- law or terms
    ground_reference TEXT NOT NULL,      -- which law or which term
    category TEXT NOT NULL,              -- DSA category
    keywords TEXT NOT NULL,              -- DSA keywords as a JSON list
    reason TEXT NOT NULL,                -- the sentence that the public reads
    source TEXT NOT NULL,                -- DSA source type: what led to it
    automated_detection INTEGER NOT NULL CHECK (automated_detection IN (0, 1)), -- found by a program?
    automated_decision INTEGER NOT NULL CHECK (automated_decision IN (0, 1)),   -- decided by a program?
    effective_at_ms INTEGER NOT NULL,    -- in force since
    leaf_index INTEGER NOT NULL UNIQUE REFERENCES decision_leaves (leaf_index), -- its leaf in the log of decisions
    audit_seq INTEGER NOT NULL UNIQUE REFERENCES audit_events (seq)             -- its audit event
) STRICT;
CREATE INDEX decisions_by_case ON decisions (case_id);

CREATE TABLE measures (
    decision TEXT NOT NULL REFERENCES decisions (decision), -- the decision that it is part of
    number INTEGER NOT NULL,                                -- 0, 1, 2 ...
    kind TEXT NOT NULL,                                     -- a measure of wire/moderation.py
    territory TEXT NOT NULL,                                -- country codes as a JSON list; empty for everywhere
    until_ms INTEGER,                                       -- end, milliseconds since 1970 UTC; NULL for indefinite
    PRIMARY KEY (decision, number)
) STRICT;

CREATE TABLE statement_recipients (
    decision TEXT NOT NULL REFERENCES decisions (decision), -- the decision
    account TEXT NOT NULL,                                  -- whom it affects
    devices INTEGER NOT NULL,                               -- into how many mailboxes the statement was put
    delivered_at_ms INTEGER NOT NULL,                       -- when
    PRIMARY KEY (decision, account)
) STRICT;

CREATE TABLE restrictions (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- the order in which they came into force
    target TEXT NOT NULL,                              -- the channel or account that is restricted
    kind TEXT NOT NULL,                                -- the measure
    decision TEXT NOT NULL REFERENCES decisions (decision), -- by which decision
    from_ms INTEGER NOT NULL,                          -- in force since, milliseconds since 1970 UTC
    lifted_by TEXT REFERENCES decisions (decision)     -- the decision that ended it; NULL while in force
) STRICT;
CREATE INDEX restrictions_in_force ON restrictions (target, kind) WHERE lifted_by IS NULL;
