package domain

import (
	"time"

	"github.com/google/uuid"
)

// Key is an API key. The key itself is shown once and never stored; the log holds the SHA-256 of its 256 random bits,
// which cannot be turned back.
type Key struct {
	ID        uuid.UUID
	AccountID uuid.UUID
	Name      string
	ExpiresAt *time.Time
	Deleted   bool
}

type (
	// KeyCreated makes an API key usable.
	KeyCreated struct {
		KeyID     uuid.UUID  `json:"key_id"`
		AccountID uuid.UUID  `json:"account_id"`
		Name      string     `json:"name"`
		Prefix    string     `json:"prefix"`
		Hash      []byte     `json:"hash"`
		ExpiresAt *time.Time `json:"expires_at,omitempty"`
	}

	// KeyUsed says that a key was used around this time. It is recorded at most once a minute for each key, in a stream
	// beside the key's own, which stays short that way.
	KeyUsed struct {
		KeyID uuid.UUID `json:"key_id"`
		At    time.Time `json:"at"`
	}

	// KeyDeleted ends a key for ever.
	KeyDeleted struct{}
)

// EventType implements Event.
func (KeyCreated) EventType() string { return "key.created" }

// EventType implements Event.
func (KeyUsed) EventType() string { return "key.used" }

// EventType implements Event.
func (KeyDeleted) EventType() string { return "key.deleted" }

// Evolve implements State.
func (k Key) Evolve(event Event) Key {
	switch e := event.(type) {
	case KeyCreated:
		k = Key{ID: e.KeyID, AccountID: e.AccountID, Name: e.Name, ExpiresAt: e.ExpiresAt}
	case KeyDeleted:
		k.Deleted = true
	}
	return k
}

// keyUseNamespace makes the ids of the streams that hold the uses of keys. It must never change.
var keyUseNamespace = uuid.MustParse("0d3a6a0e-6f0b-4f0a-8a5e-3d6f3f2b9c77")

// KeyUseStream is the stream beside a key's own that holds its uses.
func KeyUseStream(keyID uuid.UUID) uuid.UUID { return uuid.NewSHA1(keyUseNamespace, keyID[:]) }

// CreateKey asks for a new API key.
type CreateKey struct {
	KeyID     uuid.UUID
	AccountID uuid.UUID
	Name      string
	Prefix    string
	Hash      []byte
	ExpiresAt *time.Time
	Now       time.Time
}

// Decide implements the rule: a key has a name and does not start out expired.
func (c CreateKey) Decide(k Key) ([]Event, error) {
	var checks checks
	checks.name("name", c.Name)
	if c.ExpiresAt != nil {
		checks.require(c.ExpiresAt.After(c.Now), "expires_at", "expires_at must lie in the future, but is %s.", c.ExpiresAt.UTC().Format(time.RFC3339))
		// Beyond, RFC 3339 has no form for it.
		checks.require(c.ExpiresAt.UTC().Year() <= 9999, "expires_at", "expires_at must not lie after the year 9999.")
	}
	if err := checks.err(); err != nil {
		return nil, err
	}
	if k.ID != uuid.Nil {
		return nil, Errorf(Conflict, "API key %s exists already.", c.KeyID)
	}
	created := KeyCreated{KeyID: c.KeyID, AccountID: c.AccountID, Name: c.Name, Prefix: c.Prefix, Hash: c.Hash}
	if c.ExpiresAt != nil {
		expires := c.ExpiresAt.UTC()
		created.ExpiresAt = &expires
	}
	return []Event{created}, nil
}

// DeleteKey ends an API key.
type DeleteKey struct {
	KeyID     uuid.UUID
	AccountID uuid.UUID
}

// Decide implements the rule: only its owner ends a key.
func (c DeleteKey) Decide(k Key) ([]Event, error) {
	if k.ID == uuid.Nil || k.Deleted || k.AccountID != c.AccountID {
		return nil, Errorf(NotFound, "There is no API key %s.", c.KeyID)
	}
	return []Event{KeyDeleted{}}, nil
}
