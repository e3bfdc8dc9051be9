package projections

import (
	"context"
	"crypto/subtle"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// Key is an API key as the API shows it: neither the key nor its hash.
type Key struct {
	ID        uuid.UUID  `json:"id" db:"id"`
	AccountID uuid.UUID  `json:"user_id" db:"account_id"`
	Name      string     `json:"name" db:"name"`
	Prefix    string     `json:"prefix" db:"prefix"`
	CreatedAt time.Time  `json:"created_at" db:"created_at"`
	LastUsed  *time.Time `json:"last_used,omitempty" db:"last_used"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" db:"expires_at"`
}

var keysTable = &Table{Name: "keys", Columns: []Column{
	{"id", "uuid"}, {"account_id", "uuid"}, {"created_position", "bigint"}, {"name", "text"}, {"prefix", "text"}, {"hash", "bytea"},
	{"created_at", "timestamptz"}, {"last_used", "timestamptz"}, {"expires_at", "timestamptz"},
}}

var keysProjection = &Projection{
	Name: "keys", Version: 2, Tables: []*Table{keysTable},
	DDL: `create table keys (
		id               uuid        not null primary key,
		account_id       uuid        not null,
		created_position bigint      not null,
		name             text        not null,
		prefix           text        not null,
		hash             bytea       not null,
		created_at       timestamptz not null,
		last_used        timestamptz,
		expires_at       timestamptz
	);` + noStatistics("keys", "name", "hash"),
	Indexes: `create index keys_newest_first on keys (account_id, created_position desc);
	create index keys_by_prefix on keys (prefix)`,
	Types: types(domain.KeyCreated{}, domain.KeyUsed{}, domain.KeyDeleted{}, domain.AccountErased{}),
	Sweep: sweepErased("delete from keys where account_id = $1"),
	Fold: func(r Recorded, c *Changes) {
		switch e := r.Fact.(type) {
		case domain.KeyCreated:
			c.Insert(keysTable, e.KeyID, Row{
				{"account_id", e.AccountID}, {"created_position", r.Position}, {"name", e.Name}, {"prefix", e.Prefix}, {"hash", e.Hash},
				{"created_at", r.RecordedAt}, {"expires_at", e.ExpiresAt},
			})
		case domain.KeyUsed:
			c.Update(keysTable, e.KeyID, Row{{"last_used", e.At}})
		case domain.KeyDeleted:
			c.Delete(keysTable, r.StreamID)
		}
	},
}

// Keys reads the API keys.
type Keys struct{ tables tables }

const keyColumns = "id, account_id, name, prefix, created_at, last_used, expires_at"

var keyListing = listing{table: "keys", story: keysStory, columns: keyColumns, size: "octet_length(name)"}

// List returns a page of an account's keys.
func (k Keys) List(ctx context.Context, accountID uuid.UUID, part PageRequest) (Page[Key], error) {
	return readPage[Key](ctx, k.tables, keyListing, accountID, part)
}

// Find returns the key with this prefix and this SHA-256, expired or not, or a domain.Unauthorized error. Only the
// prefix, which is no secret, is looked up; the hash is compared in constant time.
func (k Keys) Find(ctx context.Context, prefix string, hash []byte) (Key, error) {
	type candidate struct {
		Key
		Hash []byte `db:"hash"`
	}
	candidates, err := many[candidate](ctx, k.tables.db, "select "+keyColumns+", hash from keys where prefix = $1", prefix)
	if err != nil {
		return Key{}, err
	}
	for _, c := range candidates {
		if subtle.ConstantTimeCompare(c.Hash, hash) == 1 {
			return c.Key, nil
		}
	}
	return Key{}, domain.Errorf(domain.Unauthorized, "The API key is not valid. It may have been deleted.")
}
