package commands

import (
	"context"
	"errors"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// errWrongPassword answers an erasure that was confirmed with another password than the account's.
var errWrongPassword = domain.InvalidFields([]domain.FieldError{{
	Field: "password", Message: "password is not the account's password. Nothing was erased.",
}})

// EraseAccountHandler ends accounts.
type EraseAccountHandler struct {
	journal   *journal
	vault     eventstore.Vault
	passwords *Passwords
}

// Handle erases an account: it gives its address back and destroys its key. Once the fact is in the log, the erasure is
// carried out whatever happens: when this process ends before the key is destroyed, another one does it (see
// projections.Eraser).
func (h EraseAccountHandler) Handle(ctx context.Context, origin Origin, cmd domain.EraseAccount) (eventstore.Position, error) {
	if err := h.confirm(ctx, cmd); err != nil {
		return 0, err
	}
	position, err := h.append(ctx, origin, cmd)
	if err != nil {
		return 0, err
	}
	return position, h.journal.codec.Keys().Erase(context.WithoutCancel(ctx), cmd.AccountID)
}

// confirm checks the password, when one was given.
func (h EraseAccountHandler) confirm(ctx context.Context, cmd domain.EraseAccount) error {
	if cmd.Password == nil {
		return nil
	}
	hash, err := h.vault.Get(ctx, cmd.AccountID, passwordSecret)
	if errors.Is(err, eventstore.ErrNoSecret) {
		return domain.ErrAccountErased
	}
	if err != nil {
		return err
	}
	ok, err := h.passwords.Check(ctx, hash, *cmd.Password)
	if err == nil && !ok {
		err = errWrongPassword
	}
	return err
}

// append writes the account's end and the release of its address at once, or neither.
func (h EraseAccountHandler) append(ctx context.Context, origin Origin, cmd domain.EraseAccount) (eventstore.Position, error) {
	for range maxAttempts {
		writes, err := h.decide(ctx, origin, cmd)
		if err != nil {
			return 0, err
		}
		position, err := h.journal.store.Append(ctx, writes...)
		if !eventstore.IsConflict(err) {
			return position, err
		}
	}
	return 0, errTooBusy
}

func (h EraseAccountHandler) decide(ctx context.Context, origin Origin, cmd domain.EraseAccount) ([]eventstore.Write, error) {
	account, err := load[domain.Account](ctx, h.journal, cmd.AccountID)
	if err != nil {
		return nil, err
	}
	erased, err := cmd.Decide(account.state)
	if err != nil {
		return nil, err
	}
	stream := emailStream(account.state.Email)
	reservation, err := load[domain.EmailReservation](ctx, h.journal, stream)
	if err != nil {
		return nil, err
	}
	released, err := cmd.Release(reservation.state)
	if err != nil {
		return nil, err
	}
	meta := origin.metadata(cmd.AccountID)
	end, err := h.journal.write(ctx, cmd.AccountID, eventstore.Exactly(account.version), meta, erased...)
	if err != nil {
		return nil, err
	}
	release, err := h.journal.write(ctx, stream, eventstore.Exactly(reservation.version), meta, released...)
	return []eventstore.Write{end, release}, err
}
