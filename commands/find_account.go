package commands

import (
	"context"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// FindAccount returns the account that an email address belongs to, or a domain.NotFound error.
func FindAccount(ctx context.Context, store eventstore.Store, codec *eventstore.Codec, email string) (uuid.UUID, error) {
	reservation, err := load[domain.EmailReservation](ctx, &journal{store: store, codec: codec}, emailStream(email))
	if err == nil && reservation.state.AccountID == uuid.Nil {
		err = domain.Errorf(domain.NotFound, "There is no account with the email address %s.", email)
	}
	return reservation.state.AccountID, err
}
