package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

func (a *API) listKeys(ctx context.Context, r *request) (int, any, error) {
	part, err := listPart(r, keysPage)
	if err != nil {
		return 0, nil, err
	}
	queries, err := a.queriesFor(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	page, err := queries.Keys.List(ctx, r.caller.accountID, part)
	return answerPage(r, page, err)
}

// newKeyBody is the only answer that ever holds an API key.
type newKeyBody struct {
	ID      uuid.UUID `json:"id"`
	Name    string    `json:"name"`
	Key     string    `json:"key"`
	Prefix  string    `json:"prefix"`
	Message string    `json:"message"`
}

func (a *API) createKey(ctx context.Context, r *request) (int, any, error) {
	var body struct {
		Name      string     `json:"name"`
		ExpiresAt *time.Time `json:"expires_at"`
	}
	if err := r.decode(&body); err != nil {
		return 0, nil, err
	}
	key, err := r.commands.CreateKey.Handle(ctx, r.origin(), r.caller.accountID, body.Name, body.ExpiresAt)
	if err != nil {
		return 0, nil, err
	}
	a.awaitSeen(ctx, "keys", key.Position)
	return http.StatusCreated, newKeyBody{key.ID, body.Name, key.Key, key.Prefix, "Keep the key now: it is not shown again."}, nil
}

var errKeyMayWork = &domain.Error{Code: domain.Unavailable,
	Message: "The key is deleted, but may work a moment longer, until every server knows. It is gone when GET /api/keys does not list it."}

// deleteKey answers 200 only when the key works nowhere any more. On this server it stops at once in any case.
func (a *API) deleteKey(ctx context.Context, r *request) (int, any, error) {
	id, err := r.pathID("API key")
	if err != nil {
		return 0, nil, err
	}
	position, err := r.commands.DeleteKey.Handle(ctx, r.origin(), domain.DeleteKey{KeyID: id, AccountID: r.caller.accountID})
	if err != nil {
		return 0, nil, err
	}
	a.deletedKeys.Store(id, true)
	if !a.awaitSeen(ctx, "keys", position) {
		return 0, nil, errKeyMayWork
	}
	// The read model tells everybody now, but somebody may have read it just before.
	time.AfterFunc(2*keysKnownFor, func() { a.deletedKeys.Delete(id) })
	return http.StatusOK, messageBody{"The API key was deleted and works no more."}, nil
}
