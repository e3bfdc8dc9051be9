package commands

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// ErrWrongLogin answers a login with a wrong email address or a wrong password. The wording is part of the wire
// contract.
var ErrWrongLogin = &domain.Error{Code: domain.Unauthorized, Message: "Invalid email or password"}

// LogInHandler opens sessions.
type LogInHandler struct {
	journal   *journal
	vault     eventstore.Vault
	passwords *Passwords
}

// Handle opens a session for whoever knows an account's password. It takes the same time whether the address or the
// password is wrong.
func (h LogInHandler) Handle(ctx context.Context, origin Origin, cmd domain.LogIn) (Login, error) {
	if err := cmd.Validate(); err != nil {
		return Login{}, err
	}
	if utf8.RuneCountInString(cmd.Password) > domain.MaxPasswordLength {
		return Login{}, ErrWrongLogin
	}
	reservation, err := load[domain.EmailReservation](ctx, h.journal, emailStream(cmd.Email))
	if err != nil {
		return Login{}, err
	}
	hash, err := h.vault.Get(ctx, reservation.state.AccountID, passwordSecret)
	if err != nil && !errors.Is(err, eventstore.ErrNoSecret) {
		return Login{}, err
	}
	ok, err := h.passwords.Check(ctx, hash, cmd.Password)
	if err != nil {
		return Login{}, err
	}
	if !ok {
		return Login{}, ErrWrongLogin
	}
	return h.openSession(ctx, origin, reservation.state.AccountID)
}

func (h LogInHandler) openSession(ctx context.Context, origin Origin, accountID uuid.UUID) (Login, error) {
	account, err := load[domain.Account](ctx, h.journal, accountID)
	if err != nil {
		return Login{}, err
	}
	token := refreshToken{sessionID: h.journal.newID(), secret: h.journal.newSecret()}
	cmd := domain.StartSession{SessionID: token.sessionID, AccountID: accountID, TokenHash: token.hash(), Now: h.journal.now()}
	origin.Actor = domain.Actor{Kind: domain.ActorUser, ID: accountID}
	position, err := decide(ctx, h.journal, origin.metadata(accountID), token.sessionID, cmd.Decide)
	if err != nil {
		return Login{}, err
	}
	return Login{Account: account.state, SessionID: token.sessionID, RefreshToken: token.String(), Position: position}, nil
}
