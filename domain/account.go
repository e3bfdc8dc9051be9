package domain

import (
	"net/mail"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// MinPasswordLength is how many characters a password has at least.
const MinPasswordLength = 6

// MaxPasswordLength bounds what one registration or login makes the server hash, in characters.
const MaxPasswordLength = 1024

// maxEmailLength is the longest address that SMTP can carry (RFC 5321, 4.5.3.1.3, without the angle brackets).
const maxEmailLength = 254

// Account is a person's account.
type Account struct {
	ID        uuid.UUID
	Email     string // as it was written at registration
	Name      string
	Retention Retention
	Erased    bool
}

// EmailReservation is the one place that says whose an email address is: its stream is derived from the address, so
// two accounts cannot hold the same.
type EmailReservation struct {
	AccountID uuid.UUID
}

type (
	// EmailReserved gives an email address to an account.
	EmailReserved struct {
		AccountID uuid.UUID `json:"account_id"`
	}

	// AccountRegistered opens an account. The password's hash is a secret and stands in the vault, not here.
	AccountRegistered struct {
		AccountID uuid.UUID `json:"account_id"`
		Email     string    `json:"email"`
		Name      string    `json:"name"`
	}

	// AccountErased ends an account for ever. With it goes the key under which everything that the account's events say is
	// sealed: that they happened is all that remains.
	AccountErased struct {
		AccountID uuid.UUID `json:"account_id"`
	}

	// EmailReleased gives an email address back when its account was erased: somebody may register with it again.
	EmailReleased struct {
		AccountID uuid.UUID `json:"account_id"`
	}
)

// EventType implements Event.
func (EmailReserved) EventType() string { return "email.reserved" }

// EventType implements Event.
func (AccountRegistered) EventType() string { return "account.registered" }

// EventType implements Event.
func (AccountErased) EventType() string { return "account.erased" }

// EventType implements Event.
func (EmailReleased) EventType() string { return "email.released" }

// Impersonal implements Impersonal.
func (EmailReserved) Impersonal() {}

// Impersonal implements Impersonal.
func (AccountErased) Impersonal() {}

// Impersonal implements Impersonal.
func (EmailReleased) Impersonal() {}

// Evolve implements State.
func (r EmailReservation) Evolve(event Event) EmailReservation {
	switch e := event.(type) {
	case EmailReserved:
		r.AccountID = e.AccountID
	case EmailReleased:
		r.AccountID = uuid.Nil
	}
	return r
}

// Evolve implements State.
func (a Account) Evolve(event Event) Account {
	switch e := event.(type) {
	case AccountRegistered:
		a = Account{ID: e.AccountID, Email: e.Email, Name: e.Name}
	case RetentionChanged:
		a.Retention = a.Retention.evolve(e)
	case AccountErased:
		a = Account{ID: e.AccountID, Erased: true}
	}
	return a
}

// RegisterAccount asks for a new account.
type RegisterAccount struct {
	AccountID uuid.UUID
	Email     string
	Password  string
	Name      string
}

// Validate checks everything that needs no state, so that nothing is hashed for a request that cannot succeed.
func (c RegisterAccount) Validate() error {
	var checks checks
	checks.require(validEmail(c.Email), "email", "email must be an address like ada@example.com.")
	checks.require(utf8.ValidString(c.Password), "password", "password must be valid UTF-8 text.")
	n := utf8.RuneCountInString(c.Password)
	checks.require(n >= MinPasswordLength, "password", "password must be at least %d characters long.", MinPasswordLength)
	checks.require(n <= MaxPasswordLength, "password", "password must be at most %d characters long.", MaxPasswordLength)
	checks.name("name", c.Name)
	return checks.err()
}

// ErrEmailTaken answers a registration for an address that has an account. The wording is part of the wire contract.
var ErrEmailTaken = &Error{Code: Invalid, Message: "Email already registered"}

// Decide gives the address to the account; the caller appends the event to the address's own stream, at the version
// of the reservation given here.
func (c RegisterAccount) Decide(r EmailReservation) ([]Event, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if r.AccountID != uuid.Nil {
		return nil, ErrEmailTaken
	}
	return []Event{EmailReserved{AccountID: c.AccountID}}, nil
}

// Registered is the account's own first event, appended together with the reservation.
func (c RegisterAccount) Registered() Event {
	return AccountRegistered{AccountID: c.AccountID, Email: c.Email, Name: c.Name}
}

// ErrAccountErased answers whoever still acts for an account that was erased.
var ErrAccountErased = &Error{Code: Unauthorized, Message: "The account was erased."}

// EraseAccount asks for the end of an account and of everything that can be read of it.
type EraseAccount struct {
	AccountID uuid.UUID
	Password  *string // when it is given, it has to be the account's
}

// Decide implements the rule: an account is erased once.
func (c EraseAccount) Decide(a Account) ([]Event, error) {
	if a.ID != c.AccountID || a.Erased {
		return nil, ErrAccountErased
	}
	return []Event{AccountErased{AccountID: c.AccountID}}, nil
}

// Release gives the account's address back. The caller appends the event to the address's own stream, together with the
// account's end, at the version of the reservation given here.
func (c EraseAccount) Release(r EmailReservation) ([]Event, error) {
	if r.AccountID != c.AccountID {
		return nil, ErrAccountErased
	}
	return []Event{EmailReleased{AccountID: c.AccountID}}, nil
}

// LogIn asks for a session of the account with that address.
type LogIn struct {
	Email    string
	Password string
}

// Validate checks that there is something to compare. Whether it is right is nobody's to know before that.
func (c LogIn) Validate() error {
	var checks checks
	checks.require(c.Email != "", "email", "email must not be empty.")
	checks.require(c.Password != "", "password", "password must not be empty.")
	return checks.err()
}

// NormalizeEmail is the form in which addresses are compared: letter case does not tell two accounts apart.
func NormalizeEmail(email string) string { return strings.ToLower(email) }

func validEmail(email string) bool {
	if len(email) > maxEmailLength || strings.ContainsAny(email, " <>\x00\r\n\t") {
		return false
	}
	parsed, err := mail.ParseAddress(email)
	return err == nil && parsed.Address == email && !strings.HasSuffix(email, "@") && strings.Contains(email, "@")
}
