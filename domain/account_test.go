package domain_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

var ada = domain.RegisterAccount{AccountID: uuid.MustParse("018f0000-0000-7000-8000-000000000001"), Email: "Ada@Example.com", Password: "secret", Name: "Ada"}

func TestAnEmailAddressBelongsToOneAccount(t *testing.T) {
	given[domain.EmailReservation]().then(t, ada.Decide, domain.EmailReserved{AccountID: ada.AccountID})
	refusal := given[domain.EmailReservation](domain.EmailReserved{AccountID: uuid.New()}).refused(t, domain.Invalid, ada.Decide)
	require.Equal(t, "Email already registered", refusal.Message)
	require.Equal(t, domain.NormalizeEmail("ADA@example.com"), domain.NormalizeEmail(ada.Email))
}

func TestARegistrationNamesEveryWrongField(t *testing.T) {
	bad := domain.RegisterAccount{Email: "ada", Password: "12345", Name: " "}
	refusal := given[domain.EmailReservation]().refused(t, domain.Invalid, bad.Decide)
	require.Equal(t, []string{"email", "password", "name"}, fieldsOf(refusal))
}

func TestNamesStandInOneLineAndShowWhatTheyAre(t *testing.T) {
	for name, good := range map[string]bool{
		"Ada": true, "Åsa Öberg": true, "नमस्ते": true, "a\nb": false, "a\tb": false, "a\u202eb": false, "a\x00b": false, "": false,
	} {
		cmd := ada
		cmd.Name = name
		require.Equal(t, good, cmd.Validate() == nil, "%q", name)
	}
}

func TestEmailAddressesAreChecked(t *testing.T) {
	for email, good := range map[string]bool{
		"ada@example.com": true, "a.b+c@sub.example.co": true, "ada@localhost": true,
		"": false, "ada": false, "ada@": false, "@example.com": false, "Ada <ada@example.com>": false, "ada@example.com ": false,
		"a\x00da@example.com": false, "ada@example.com\n": false, "ada@exa mple.com": false,
		strings.Repeat("a", 250) + "@example.com": false,
	} {
		cmd := ada
		cmd.Email = email
		require.Equal(t, good, cmd.Validate() == nil, "%q", email)
	}
}

func TestPasswordsAreCountedInCharacters(t *testing.T) {
	for password, good := range map[string]bool{
		"123456": true, "äöüßéè": true, "12345": false, "äöüßé": false, strings.Repeat("x", 1024): true, strings.Repeat("x", 1025): false,
	} {
		cmd := ada
		cmd.Password = password
		require.Equal(t, good, cmd.Validate() == nil, "%d characters", len([]rune(password)))
	}
}

var (
	now     = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	started = domain.SessionStarted{SessionID: uuid.New(), AccountID: uuid.New(), TokenHash: []byte("first"), ExpiresAt: now.Add(time.Hour)}
)

func TestARefreshTokenIsExchangedOnce(t *testing.T) {
	refresh := domain.RefreshSession{Presented: []byte("first"), Successor: []byte("second"), Now: now}
	exchanged := domain.SessionRefreshed{TokenHash: []byte("second"), ExpiresAt: now.Add(domain.RefreshLifetime)}
	given[domain.Session](started).then(t, refresh.Decide, exchanged)

	events, err := refresh.Decide(domain.Fold[domain.Session](started, exchanged))
	require.ErrorIs(t, err, domain.ErrSessionEnded)
	require.IsType(t, domain.SessionRevoked{}, events[0], "a token that comes twice ends the family")

	guess := domain.RefreshSession{Presented: []byte("guess"), Successor: []byte("third"), Now: now}
	events, err = guess.Decide(domain.Fold[domain.Session](started, exchanged))
	require.ErrorIs(t, err, domain.ErrSessionEnded)
	require.Empty(t, events, "a token that never was one of the session's does not end it")

	events, _ = refresh.Decide(domain.Fold[domain.Session](started, exchanged))
	successor := domain.RefreshSession{Presented: []byte("second"), Successor: []byte("third"), Now: now}
	given[domain.Session](started, exchanged, events[0]).refused(t, domain.Unauthorized, successor.Decide)
}

func TestASessionEndsInTime(t *testing.T) {
	refresh := domain.RefreshSession{Presented: []byte("first"), Successor: []byte("second"), Now: started.ExpiresAt}
	given[domain.Session](started).refused(t, domain.Unauthorized, refresh.Decide)
	given[domain.Session]().refused(t, domain.Unauthorized, refresh.Decide)
}

func TestAnAPIKeyLivesFromCreationToDeletion(t *testing.T) {
	owner := uuid.New()
	create := domain.CreateKey{KeyID: uuid.New(), AccountID: owner, Name: "ci", Prefix: "vr_123456789", Hash: []byte("h"), Now: now}
	created := domain.KeyCreated{KeyID: create.KeyID, AccountID: owner, Name: "ci", Prefix: "vr_123456789", Hash: []byte("h")}
	given[domain.Key]().then(t, create.Decide, created)

	past := create
	past.ExpiresAt = ptr(now)
	require.Equal(t, []string{"expires_at"}, fieldsOf(given[domain.Key]().refused(t, domain.Invalid, past.Decide)))

	for _, beyond := range []string{"9999-12-31T23:59:59-23:00"} {
		at, err := time.Parse(time.RFC3339, beyond)
		require.NoError(t, err)
		late := create
		late.ExpiresAt = &at
		require.Equal(t, []string{"expires_at"}, fieldsOf(given[domain.Key]().refused(t, domain.Invalid, late.Decide)), "it is the year 10000 in UTC")
	}

	remove := domain.DeleteKey{KeyID: create.KeyID, AccountID: owner}
	given[domain.Key](created).then(t, remove.Decide, domain.KeyDeleted{})
	given[domain.Key](created, domain.KeyDeleted{}).refused(t, domain.NotFound, remove.Decide)
	given[domain.Key](created).refused(t, domain.NotFound, domain.DeleteKey{KeyID: create.KeyID, AccountID: uuid.New()}.Decide)
}

func TestAnErasedAccountStaysErasedAndItsAddressIsFree(t *testing.T) {
	registered := domain.AccountRegistered{AccountID: ada.AccountID, Email: ada.Email, Name: ada.Name}
	erase := domain.EraseAccount{AccountID: ada.AccountID}
	erased := domain.AccountErased{AccountID: ada.AccountID}
	given[domain.Account](registered).then(t, erase.Decide, erased)
	given[domain.Account](registered, erased).refused(t, domain.Unauthorized, erase.Decide)
	given[domain.Account](domain.Redacted{Type: "account.registered"}, erased).refused(t, domain.Unauthorized, erase.Decide)
	given[domain.Account]().refused(t, domain.Unauthorized, erase.Decide)
	require.Equal(t, domain.Account{ID: ada.AccountID, Erased: true}, domain.Fold[domain.Account](registered, erased), "nothing of it is left")

	reserved, released := domain.EmailReserved{AccountID: ada.AccountID}, domain.EmailReleased{AccountID: ada.AccountID}
	given[domain.EmailReservation](reserved).then(t, erase.Release, released)
	given[domain.EmailReservation](reserved, released).refused(t, domain.Unauthorized, erase.Release)
	given[domain.EmailReservation](reserved, released).then(t, ada.Decide, reserved)
	given[domain.EmailReservation](domain.EmailReserved{AccountID: uuid.New()}).refused(t, domain.Unauthorized, erase.Release)
}
