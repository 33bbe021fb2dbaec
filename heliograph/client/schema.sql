-- A device's store. One process opens it; a transaction holds everything that one step changes.

CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,  -- 'identity', 'server', 'session', 'incarnation'; 'founding' and 'prepared'
                                      -- while a device comes into being; 'room_names' of its grant; 'desk_key' of a reviewer
    value BLOB NOT NULL               -- MessagePack or text; most hold secrets
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    account TEXT NOT NULL PRIMARY KEY,  -- whose chain this is
    handle  TEXT NOT NULL,              -- as the server named it last
    chain   BLOB NOT NULL               -- MessagePack list of signed states, genesis first; verified before it is saved
) STRICT, WITHOUT ROWID;

CREATE TABLE key_packages (
    reference    BLOB NOT NULL PRIMARY KEY,  -- KeyPackageRef, by which a Welcome names it
    key_package  BLOB NOT NULL,              -- as it was published
    init_key     BLOB NOT NULL,              -- private: opens the Welcome, then is deleted
    leaf_key     BLOB NOT NULL,              -- private: becomes the leaf's
    last_resort  INTEGER NOT NULL,           -- 1: may be used more than once
    made_at_ms   INTEGER NOT NULL            -- unsigned ms since 1970 UTC
) STRICT, WITHOUT ROWID;

CREATE TABLE rooms (
    room        TEXT NOT NULL PRIMARY KEY,  -- the room's id
    direct      INTEGER NOT NULL,           -- 1: of two people
    name        TEXT NOT NULL,              -- as a sealed message said; '' while unknown
    topic       TEXT NOT NULL,              -- as a sealed message said
    standing    TEXT NOT NULL,              -- 'active', 'lost' or 'restored' (wait to join again), 'left'
    leaf_at_ms  INTEGER NOT NULL,           -- when this device's leaf was made, ms since 1970 UTC; 0: a fresh one is due
    peer        TEXT NOT NULL               -- account for whom this device made a direct room; '' otherwise
) STRICT, WITHOUT ROWID;

CREATE TABLE group_rows (
    room   TEXT NOT NULL,  -- the room's id
    name   TEXT NOT NULL,  -- the row's name in `Group.rows()`
    value  BLOB NOT NULL,  -- its content; holds private keys
    PRIMARY KEY (room, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE pending_changes (
    room         TEXT NOT NULL PRIMARY KEY,  -- one commit at a time
    pending      BLOB NOT NULL               -- MessagePack: the request, its hash, and the group's rows after it
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors (
    topic  TEXT NOT NULL PRIMARY KEY,  -- room, channel or own mailbox
    seq    INTEGER NOT NULL            -- everything up to here is kept
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,  -- local order of arrival
    room              TEXT NOT NULL,     -- where it was said
    message_id        BLOB NOT NULL,     -- MIMI message id, 32 bytes
    seq               INTEGER NOT NULL,  -- its entry; 0 until accepted
    accepted_at_ms    INTEGER NOT NULL,  -- by the server; 0 until accepted
    created_at_ms     INTEGER NOT NULL,  -- when this device got or wrote it
    sender            TEXT NOT NULL,     -- account
    device            TEXT NOT NULL,     -- the sender's device
    act               TEXT NOT NULL,     -- 'say', 'react', 'edit', 'delete', 'profile', 'receipt'
    text              TEXT NOT NULL,     -- its plain text
    state             TEXT NOT NULL,     -- 'waiting', 'sent', 'received', 'refused'
    in_reply_to       BLOB NOT NULL,     -- message id, or empty
    replaces          BLOB NOT NULL,     -- message id, or empty
    application_data  BLOB NOT NULL,     -- what its sender sealed: a report discloses this
    envelope          BLOB NOT NULL      -- MessagePack of the server's stamp; empty until accepted
) STRICT;
CREATE UNIQUE INDEX messages_by_id ON messages (room, message_id);
CREATE INDEX messages_by_seq ON messages (room, seq);

CREATE TABLE ciphertexts (
    room        TEXT NOT NULL,  -- where it was sent
    sha256      BLOB NOT NULL,  -- of the sealed message, known again when it comes by in the stream
    message_id  BLOB NOT NULL,  -- what it holds
    PRIMARY KEY (room, sha256)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,  -- order within a lane
    lane     TEXT NOT NULL,  -- room or channel: what must stay in order
    intent   BLOB NOT NULL,  -- MessagePack of an Intent
    request  BLOB NOT NULL,  -- MessagePack of the exact request; empty until it is made
    urgent   INTEGER NOT NULL -- 1: before all others of its lane (coming back to a room that was lost)
) STRICT;
CREATE INDEX outbox_by_lane ON outbox (lane, urgent, id);

CREATE TABLE channels (
    channel  TEXT NOT NULL PRIMARY KEY,  -- followed by this account
    handle   TEXT NOT NULL,              -- its handle
    title    TEXT NOT NULL               -- its title when it was followed
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of telling
    told  BLOB NOT NULL                       -- MessagePack of a Told, deleted when it was taken
) STRICT;
