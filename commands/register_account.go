package commands

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/eventstore"
)

// Login is an account with a session that was just opened or prolonged.
type Login struct {
	Account      domain.Account
	SessionID    uuid.UUID
	RefreshToken string // shown this once
	Position     eventstore.Position
}

// passwordSecret is the name of an account's password hash in the vault.
const passwordSecret = "password"

// emailNamespace makes stream ids of email addresses. It must never change.
var emailNamespace = uuid.MustParse("5b0f8a44-0c3e-4a43-9a43-6f5a1e7f2c11")

func emailStream(email string) uuid.UUID {
	return uuid.NewSHA1(emailNamespace, []byte(domain.NormalizeEmail(email)))
}

// RegisterAccountHandler opens accounts.
type RegisterAccountHandler struct {
	journal   *journal
	vault     eventstore.Vault
	passwords *Passwords
}

// Handle opens an account and its first session, at once or not at all. The password's hash goes to the vault first, so
// that there is never an account without one. Of an account that could not be opened a hash may stay that nothing leads
// to.
func (h RegisterAccountHandler) Handle(ctx context.Context, origin Origin, cmd domain.RegisterAccount) (Login, error) {
	cmd.AccountID = h.journal.newID()
	reserve, err := h.reserveEmail(ctx, origin, cmd)
	if err != nil {
		return Login{}, err
	}
	hash, err := h.passwords.Hash(ctx, cmd.Password)
	if err != nil {
		return Login{}, err
	}
	if err := h.vault.Put(ctx, cmd.AccountID, passwordSecret, hash); err != nil {
		return Login{}, err
	}
	login, err := h.open(ctx, origin, cmd, reserve)
	if eventstore.IsConflict(err) {
		err = domain.ErrEmailTaken
	}
	if errors.Is(err, domain.ErrEmailTaken) || errors.Is(err, errOvertaken) {
		_ = h.vault.Forget(ctx, cmd.AccountID) // see above: when it fails, the hash stays and harms nobody
	}
	return login, err
}

// reserveEmail decides on the address before anything slow is done.
func (h RegisterAccountHandler) reserveEmail(ctx context.Context, origin Origin, cmd domain.RegisterAccount) (eventstore.Write, error) {
	if err := cmd.Validate(); err != nil {
		return eventstore.Write{}, err
	}
	stream := emailStream(cmd.Email)
	reservation, err := load[domain.EmailReservation](ctx, h.journal, stream)
	if err != nil {
		return eventstore.Write{}, err
	}
	events, err := cmd.Decide(reservation.state)
	if err != nil {
		return eventstore.Write{}, err
	}
	return h.journal.write(ctx, stream, eventstore.Exactly(reservation.version), origin.metadata(cmd.AccountID), events...)
}

func (h RegisterAccountHandler) open(ctx context.Context, origin Origin, cmd domain.RegisterAccount, reserve eventstore.Write) (Login, error) {
	token := refreshToken{sessionID: h.journal.newID(), secret: h.journal.newSecret()}
	started, err := domain.StartSession{
		SessionID: token.sessionID, AccountID: cmd.AccountID, TokenHash: token.hash(), Now: h.journal.now(),
	}.Decide(domain.Session{})
	if err != nil {
		return Login{}, err
	}
	meta := origin.metadata(cmd.AccountID)
	account, err := h.journal.write(ctx, cmd.AccountID, eventstore.New, meta, cmd.Registered())
	if err != nil {
		return Login{}, err
	}
	session, err := h.journal.write(ctx, token.sessionID, eventstore.New, meta, started...)
	if err != nil {
		return Login{}, err
	}
	position, err := h.journal.store.Append(ctx, reserve, account, session)
	if err != nil {
		return Login{}, err
	}
	return Login{
		Account:   domain.Fold[domain.Account](cmd.Registered()),
		SessionID: token.sessionID, RefreshToken: token.String(), Position: position,
	}, nil
}
