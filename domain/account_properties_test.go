package domain_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/voltrun/voltrun/domain"
	"github.com/voltrun/voltrun/domain/domaintest"
)

// Whatever somebody enters at registration: it is refused, or it stands in the account letter by letter.
func TestARegistrationIsTakenLetterByLetterOrRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cmd := domain.RegisterAccount{
			AccountID: uuid.New(),
			Email:     rapid.OneOf(rapid.String(), validEmail).Draw(t, "email"),
			Password:  rapid.OneOf(rapid.String(), rapid.StringN(6, 1024, -1)).Draw(t, "password"),
			Name:      rapid.OneOf(rapid.String(), validName, rapid.SampledFrom(invalidNames)).Draw(t, "name"),
		}
		events, err := cmd.Decide(domain.EmailReservation{})
		require.Equal(t, cmd.Validate(), err)
		if err != nil {
			refusal := requireRefused(t, domain.Invalid, events, err)
			require.NotEmpty(t, refusal.Fields)
			return
		}
		require.Equal(t, domain.Account{ID: cmd.AccountID, Email: cmd.Email, Name: cmd.Name}, domain.Fold[domain.Account](cmd.Registered()))
		require.Equal(t, cmd.AccountID, domain.Fold[domain.EmailReservation](events...).AccountID)
	})
}

// An address is the first one's who asks for it, however its letters are written.
func TestAnEmailAddressStaysTheFirstOnes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		email := validEmail.Draw(t, "email")
		first := domain.RegisterAccount{AccountID: uuid.New(), Email: email, Password: "secret", Name: "Ada"}
		taken, err := first.Decide(domain.EmailReservation{})
		require.NoError(t, err)
		second := first
		second.AccountID, second.Email = uuid.New(), strings.ToUpper(email)
		require.Equal(t, domain.NormalizeEmail(first.Email), domain.NormalizeEmail(second.Email))
		events, err := second.Decide(domain.Fold[domain.EmailReservation](taken...))
		requireRefused(t, domain.Invalid, events, err)
	})
}

var validEmail = rapid.StringMatching(`[A-Za-z0-9]{1,20}([.+_-][A-Za-z0-9]{1,8})?@[a-z0-9]{1,20}(\.[a-z]{2,6})?`)

// A key is what was asked for, lives until its owner deletes it, and is nobody else's.
func TestAKeyIsItsOwnersUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		owner := uuid.New()
		cmd := domain.CreateKey{
			KeyID: uuid.New(), AccountID: owner, Name: validName.Draw(t, "name"), Prefix: "vr_123456789", Hash: []byte("hash"), Now: now,
			ExpiresAt: maybe(t, "expiry", domaintest.Time()),
		}
		events, err := cmd.Decide(domain.Key{})
		if cmd.ExpiresAt != nil && !cmd.ExpiresAt.After(now) {
			requireField(t, "expires_at", events, err)
			return
		}
		require.NoError(t, err)
		key := domain.Fold[domain.Key](events...)
		require.Equal(t, domain.Key{ID: cmd.KeyID, AccountID: owner, Name: cmd.Name, ExpiresAt: cmd.ExpiresAt}, key)
		requireKeysLife(t, cmd, key)
	})
}

func requireKeysLife(t *rapid.T, cmd domain.CreateKey, key domain.Key) {
	events, err := cmd.Decide(key)
	requireRefused(t, domain.Conflict, events, err)
	events, err = domain.DeleteKey{KeyID: key.ID, AccountID: uuid.New()}.Decide(key)
	requireRefused(t, domain.NotFound, events, err)

	remove := domain.DeleteKey{KeyID: key.ID, AccountID: key.AccountID}
	events, err = remove.Decide(key)
	require.NoError(t, err)
	deleted := key.Evolve(events[0])
	require.True(t, deleted.Deleted)
	events, err = remove.Decide(deleted)
	requireRefused(t, domain.NotFound, events, err)
	events, err = remove.Decide(domain.Key{})
	requireRefused(t, domain.NotFound, events, err)
}

func TestAKeysNameIsOneLineThatCanBeSeen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		past := now.Add(-time.Duration(rapid.Int64Range(0, 1e15).Draw(t, "ago")))
		cmd := domain.CreateKey{KeyID: uuid.New(), AccountID: uuid.New(), Name: rapid.SampledFrom(invalidNames).Draw(t, "name"), Now: now}
		events, err := cmd.Decide(domain.Key{})
		requireField(t, "name", events, err)
		cmd.Name, cmd.ExpiresAt = "ci", &past
		events, err = cmd.Decide(domain.Key{})
		requireField(t, "expires_at", events, err)
	})
}
