package rest

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/voltrun/voltrun/domain"
)

// tokenLifetime is how long an access token is good. It cannot be taken back before, so it is short, and refreshed.
const tokenLifetime = time.Hour

const (
	tokenIssuer   = "voltrun"
	tokenAudience = "voltrun-api"
)

// claims are what an access token says: Subject is the account's id.
type claims struct {
	jwt.RegisteredClaims
	SessionID string `json:"sid"`
}

// tokens makes and checks access tokens.
type tokens struct {
	secret []byte
	now    func() time.Time
	parser *jwt.Parser
}

func newTokens(secret []byte, now func() time.Time) *tokens {
	return &tokens{secret: secret, now: now, parser: newTokenParser(tokenAudience, now)}
}

func newTokenParser(audience string, now func() time.Time) *jwt.Parser {
	return jwt.NewParser(
		// One algorithm only: whoever could choose it could choose none, or pass a public key off as the secret.
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithIssuer(tokenIssuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithStrictDecoding(), jwt.WithTimeFunc(now),
	)
}

// issue makes an access token for a session.
func (t *tokens) issue(accountID, sessionID uuid.UUID) (token string, expiresAt time.Time, err error) {
	issuedAt := t.now().UTC().Truncate(time.Second)
	expiresAt = issuedAt.Add(tokenLifetime)
	token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		SessionID: sessionID.String(),
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: tokenIssuer, Audience: jwt.ClaimStrings{tokenAudience}, Subject: accountID.String(),
			IssuedAt: jwt.NewNumericDate(issuedAt), ExpiresAt: jwt.NewNumericDate(expiresAt),
		},
	}).SignedString(t.secret)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign an access token: %w", err)
	}
	return token, expiresAt, nil
}

var (
	errTokenExpired = &domain.Error{Code: domain.Unauthorized, Message: "The access token has expired. Refresh it or log in again."}
	errTokenInvalid = &domain.Error{Code: domain.Unauthorized, Message: "The access token is not valid. Log in again."}
)

// verify returns whose session a token proves. Only a token that we signed is ever called expired; everything else that
// is wrong with a token is answered alike.
func (t *tokens) verify(token string) (caller, error) {
	var c claims
	_, err := t.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return t.secret, nil })
	if errors.Is(err, jwt.ErrTokenExpired) {
		return caller{}, errTokenExpired
	}
	accountID, isAccount := parseID(c.Subject)
	sessionID, isSession := parseID(c.SessionID)
	if err != nil || !isAccount || !isSession {
		return caller{}, errTokenInvalid
	}
	return caller{accountID: accountID, sessionID: sessionID, actor: domain.Actor{Kind: domain.ActorUser, ID: accountID}}, nil
}
