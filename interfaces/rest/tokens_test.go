package rest

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/voltrun/voltrun/domain"
)

func TestATokenProvesItsSessionForAnHour(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)
	clock := now
	tokens := newTokens([]byte("a secret of this test, long enough"), func() time.Time { return clock })
	account, session := uuid.New(), uuid.New()
	token, expiresAt, err := tokens.issue(account, session)
	require.NoError(t, err)
	require.Equal(t, now.Add(time.Hour), expiresAt)

	clock = expiresAt.Add(-time.Second)
	who, err := tokens.verify(token)
	require.NoError(t, err)
	require.Equal(t, caller{accountID: account, sessionID: session, actor: domain.Actor{Kind: domain.ActorUser, ID: account}}, who)

	clock = expiresAt
	_, err = tokens.verify(token)
	require.Equal(t, errTokenExpired, err)
}

func TestATokenOfAnotherSecretIsInvalidEvenWhenItHasExpired(t *testing.T) {
	t.Parallel()
	past := func() time.Time { return time.Now().Add(-48 * time.Hour) }
	token, _, err := newTokens([]byte("a secret of somebody else, long enough"), past).issue(uuid.New(), uuid.New())
	require.NoError(t, err)
	_, err = newTokens([]byte("a secret of this test, long enough"), time.Now).verify(token)
	require.Equal(t, errTokenInvalid, err, "whether it has expired is told to nobody but its holder")
}

func TestATokenMustNameAnAccountAndASession(t *testing.T) {
	t.Parallel()
	secret := []byte("a secret of this test, long enough")
	tokens := newTokens(secret, time.Now)
	for _, c := range []claims{
		{SessionID: uuid.NewString()},
		{RegisteredClaims: jwt.RegisteredClaims{Subject: uuid.NewString()}},
		{SessionID: "1", RegisteredClaims: jwt.RegisteredClaims{Subject: "2"}},
	} {
		c.Issuer, c.Audience = tokenIssuer, jwt.ClaimStrings{tokenAudience}
		c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(time.Minute))
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
		require.NoError(t, err)
		_, err = tokens.verify(token)
		require.Equal(t, errTokenInvalid, err)
	}
}
