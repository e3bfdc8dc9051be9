package rest

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/projections"
)

var (
	errNotSignedIn = &domain.Error{Code: domain.Unauthorized,
		Message: "Sign in first: send an access token or an API key in the header Authorization, as \"Bearer …\"."}
	errKeyInvalid = &domain.Error{Code: domain.Unauthorized, Message: "The API key is not valid. It may have been deleted."}
	errKeyExpired = &domain.Error{Code: domain.Unauthorized, Message: "The API key has expired. Create a new one."}
)

// keyBytes is how many random bytes an API key has.
const keyBytes = 32

// authenticate finds out who sent a request.
func (a *API) authenticate(r *http.Request) (caller, error) {
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	credential := credentialOf(r)
	switch {
	case credential == "":
		return caller{}, errNotSignedIn
	case strings.HasPrefix(credential, commands.KeyPrefix):
		return a.authenticateKey(ctx, credential)
	}
	who, err := a.tokens.verify(credential)
	if err == nil {
		err = a.requireAccount(ctx, who.accountID)
	}
	return who, err
}

// requireAccount refuses an account that was erased: it is nobody, whatever the credential says of itself.
func (a *API) requireAccount(ctx context.Context, accountID uuid.UUID) error {
	erased, err := a.accounts.Erased(ctx, accountID)
	if err == nil && erased {
		err = domain.ErrAccountErased
	}
	return err
}

// credentialOf returns the access token or API key that a request carries, empty when there is none.
func credentialOf(r *http.Request) string {
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(credential)
	}
	return r.Header.Get("X-API-Key")
}

// keysKnownFor is for how long a key that was found is not looked up again: so long may one go on that was deleted through
// another server.
const (
	keysKnownFor = time.Second
	keysKnown    = 10_000
)

// knownKey is a key that was found a moment ago.
type knownKey struct {
	projections.Key
	until time.Time
}

func newKnownKeys() *lru.Cache[[32]byte, knownKey] {
	cache, err := lru.New[[32]byte, knownKey](keysKnown)
	if err != nil {
		panic(err) // only for a size below one
	}
	return cache
}

func (a *API) findKey(ctx context.Context, credential string) (projections.Key, error) {
	hash := commands.HashKey(credential)
	if known, ok := a.knownKeys.Get([32]byte(hash)); ok && time.Now().Before(known.until) {
		return known.Key, nil
	}
	key, err := a.queries.Keys.Find(ctx, commands.PrefixOfKey(credential), hash)
	if err == nil {
		a.knownKeys.Add([32]byte(hash), knownKey{key, time.Now().Add(keysKnownFor)})
	}
	return key, err
}

// authenticateKey finds the key that somebody holds. What cannot be a key is not looked up.
func (a *API) authenticateKey(ctx context.Context, credential string) (caller, error) {
	secret, err := hex.DecodeString(strings.TrimPrefix(credential, commands.KeyPrefix))
	if err != nil || len(secret) != keyBytes {
		return caller{}, errKeyInvalid
	}
	key, err := a.findKey(ctx, credential)
	if err != nil {
		return caller{}, err
	}
	if _, deleted := a.deletedKeys.Load(key.ID); deleted {
		return caller{}, errKeyInvalid
	}
	now := a.now()
	if key.ExpiresAt != nil && !now.Before(*key.ExpiresAt) {
		return caller{}, errKeyExpired
	}
	if err := a.requireAccount(ctx, key.AccountID); err != nil {
		return caller{}, err
	}
	a.keyUses.note(key, requestID(ctx))
	return caller{accountID: key.AccountID, actor: domain.Actor{Kind: domain.ActorAPIKey, ID: key.ID, Prefix: key.Prefix}}, nil
}
