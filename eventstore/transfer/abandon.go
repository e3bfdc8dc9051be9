package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// AbandonAccount gives up the import of an account that did not come to its end. What was imported is erased as an account is:
// it can never be read again, and the account can never be imported here again. It refuses an account whose import has come to
// its end, and one of which nothing is here.
func AbandonAccount(ctx context.Context, store *postgres.Store, codec *eventstore.Codec, account uuid.UUID) error {
	if err := requireBegun(ctx, store, account); err != nil {
		return fmt.Errorf("account %s: %w", account, err)
	}
	event, err := codec.Encode(ctx, uuid.Must(uuid.NewV7()), domain.AccountErased{AccountID: account}, eventstore.Metadata{
		AccountID: account, Actor: domain.Actor{Kind: domain.ActorSystem},
	})
	if err != nil {
		return err
	}
	_, err = store.Append(ctx, eventstore.Write{StreamID: account, Expected: eventstore.New, Events: []eventstore.NewEvent{event}})
	if eventstore.IsConflict(err) {
		return fmt.Errorf("account %s: its import came to its end meanwhile", account)
	}
	if err != nil {
		return err
	}
	return codec.Keys().Erase(context.WithoutCancel(ctx), account)
}

// requireBegun refuses an account that is not in the middle of an import. Its own stream is imported last.
func requireBegun(ctx context.Context, store *postgres.Store, account uuid.UUID) error {
	for _, err := range store.ReadStream(ctx, account, 0) {
		if err == nil {
			err = errors.New("it is here, or was erased; an account that is here is erased by its holder (DELETE /api/account)")
		}
		return err
	}
	var begun bool
	err := store.Pool().QueryRow(ctx, "select exists (select from vault where owner = $1) or exists (select from events where account_id = $1)", account).
		Scan(&begun)
	if err == nil && !begun {
		err = errors.New("nothing of it was imported here")
	}
	return err
}
